"""Traces on request: which folder they may go to. The traces themselves are tests/distributed/test_profile.py's."""

from pathlib import Path

import pytest

from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.clock import Clock
from hpcfast.training.profile import Profile


def test_a_folder_with_files_is_refused_and_kept(tmp_path: Path, world: World) -> None:
    (tmp_path / "rank-0000.json").write_text("mine")
    with pytest.raises(UserError, match=r"--profile: .* is not empty; give another folder"):
        Profile(tmp_path, world, Clock())
    assert (tmp_path / "rank-0000.json").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, world: World) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--profile: cannot write .*/file/deep"):
        Profile(tmp_path / "file" / "deep", world, Clock())


def test_a_run_that_ends_before_the_trace_begins_has_none(tmp_path: Path, world: World) -> None:
    profile = Profile(tmp_path / "new", world, Clock())
    profile.step()
    profile.close()
    assert list((tmp_path / "new").iterdir()) == []
