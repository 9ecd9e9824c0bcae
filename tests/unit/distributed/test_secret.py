"""The secret of a job: from the environment, or from a file that only its owner can read."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcfast.distributed import secret
from hpcfast.errors import UserError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "hpcfast" / "secret"


def test_the_environment_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secret.VARIABLE, "given to this very job")
    assert secret.secret() == b"given to this very job"
    assert not place.exists()


def test_a_secret_that_can_be_guessed_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secret.VARIABLE, "short")
    with pytest.raises(UserError, match="has 5 characters, which can be guessed; give it 16"):
        secret.secret()


def test_the_file_is_made_once_and_nobody_else_can_read_it(place: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        everyone = {future.result() for future in [pool.submit(secret.secret) for _ in range(40)]}
    assert everyone == {place.read_bytes()}
    assert len(everyone.pop()) == 2 * secret.LEAST
    assert place.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in place.parent.iterdir()] == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_write_is_refused(mode: int, place: Path) -> None:
    secret.secret()
    place.chmod(mode)
    with pytest.raises(UserError, match="is no secret of yours"):
        secret.secret()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_another_users_file_is_refused(place: Path) -> None:
    secret.secret()
    os.chown(place, 12345, -1)
    with pytest.raises(UserError, match="is no secret of yours"):
        secret.secret()


def test_a_home_folder_that_cannot_be_written_is_named_with_the_cure(place: Path, tmp_path: Path) -> None:
    place.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=rf"{place}.*set {secret.VARIABLE} to the same secret"):
        secret.secret()
