"""Repositories of the Hugging Face Hub: what is in the folder stays right, and is pushed only when that is asked."""

from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest

from hpcfast.config import RunConfig
from hpcfast.errors import UserError
from hpcfast.export import hub as repository
from hpcfast.export import publish
from hpcfast.runs.directory import RunDirectory
from tests.unit.cli.test_cli import assert_refused
from tests.unit.export.conftest import Run


class Hub:
    """The Hub's client, as far as a push goes."""

    asked: ClassVar[list[Any]] = []
    """By all of them."""

    def __init__(self, **settings: Any) -> None:
        self.asked.append(settings)

    def create_repo(self, repo_id: str, **settings: Any) -> str:
        self.asked.append((repo_id, settings))
        return f"https://hub/{repo_id}"

    def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str], **_: Any) -> None:
        self.asked.append((repo_id, {path.name for path in folder_path.iterdir() if path.name in allow_patterns}))


class Unreachable(Hub):
    def create_repo(self, repo_id: str, **settings: Any) -> str:
        raise ConnectionError("no route to host\nand more")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    monkeypatch.setattr(Hub, "asked", [])
    return Hub


def test_a_repository_is_pushed_only_when_that_is_asked(
    hpcfast: Run, plain: RunConfig, out: Path, hub: type[Hub]
) -> None:
    assert hpcfast(plain.folder, "--format", "hub", "--out", out).code == 0
    assert hub.asked == []
    (out / "notes.txt").write_text("private")
    done = hpcfast(plain.folder, "--format", "hub", "--out", out, "--overwrite", "--push-to", "me/robust")
    assert done.code == 0, done.err
    assert "pushed   https://hub/me/robust" in done.out
    assert hub.asked == [
        {"token": "secret", "library_name": "hpcfast"},
        ("me/robust", {"private": True, "exist_ok": True}),
        ("me/robust", {"model.safetensors", "model.safetensors.json", "config.json", "README.md"}),
    ]


def test_what_cannot_be_pushed_is_told_before_any_work(
    hpcfast: Run, plain: RunConfig, out: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (plain.folder, "--out", out, "--push-to")
    assert_refused(hpcfast(*args, "me/robust", "--format", "onnx"), "only --format hub can be pushed, not onnx")
    assert_refused(hpcfast(*args, "robust", "--format", "hub"), "--push-to 'robust': write OWNER/NAME")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert_refused(hpcfast(*args, "me/robust", "--format", "hub"), "there is no token", "set HF_TOKEN or log in")
    assert not out.exists()
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached_leaves_the_folder(
    hpcfast: Run, plain: RunConfig, out: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    done = hpcfast(plain.folder, "--format", "hub", "--out", out, "--push-to", "me/robust")
    assert_refused(done, "no route to host. The folder is whole; 'hf upload me/robust", "pushes it")
    assert "and more" not in done.err
    assert (out / "model.safetensors").is_file()


def test_a_repository_is_a_folder_whose_other_files_stay(hpcfast: Run, plain: RunConfig, out: Path) -> None:
    args = (plain.folder, "--format", "hub", "--out", out)
    out.parent.mkdir()
    out.write_text("precious")
    assert_refused(hpcfast(*args, "--overwrite"), "is a file, and a model repository is a folder")
    out.unlink()
    out.mkdir()
    (out / "README.md").write_text("precious")
    assert_refused(hpcfast(*args), "README.md: already there", "another --out, or --overwrite")
    (out / "LICENSE").write_text("precious")
    assert hpcfast(*args, "--overwrite").code == 0
    assert (out / "LICENSE").read_text() == "precious"
    assert (out / "README.md").read_text().startswith("---\nlibrary_name: timm\n")


def test_wrong_normalisation_in_a_repository_is_found(
    plain: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = repository.configuration
    monkeypatch.setattr(
        repository, "configuration", lambda *args: right(*args).replace('"mean": [\n      0.5', '"mean": [\n      0.4')
    )
    with pytest.raises(UserError, match=r"does not do what the run's model does: logits differ"):
        publish(RunDirectory(plain.folder), plain, "hub", out)
    assert list(out.iterdir()) == []
