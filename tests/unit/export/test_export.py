"""What hpcfast export prints, what it refuses, and what it does where a file is not what it should be."""

import dataclasses
import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.errors import UserError
from hpcfast.export import card, publish
from hpcfast.export.formats import FORMATS
from hpcfast.runs.directory import RunDirectory
from tests.unit.cli.test_cli import assert_refused
from tests.unit.export.conftest import Run


def test_what_it_prints_and_writes(hpcfast: Run, plain: RunConfig, out: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    done = hpcfast(plain.folder, "--format", "state-dict", "--out", out, "--json", numbers)
    assert done.code == 0, done.err
    result = json.loads(numbers.read_text())
    assert result["path"] == str(out)
    for part in (f"{result['bytes']:,} bytes", result["sha256"], "at most"):
        assert part in done.out
    assert {path.name for path in out.parent.iterdir()} == {"robust.pt", "robust.pt.md", "robust.pt.json"}


@pytest.mark.parametrize("there", ["", ".md", ".json"])
def test_what_is_there_is_not_overwritten_unasked(there: str, hpcfast: Run, plain: RunConfig, out: Path) -> None:
    out.parent.mkdir()
    Path(f"{out}{there}").write_text("precious")
    args = (plain.folder, "--format", "safetensors", "--out", out)
    assert_refused(hpcfast(*args), f"{out}{there}: already there", "another --out, or --overwrite")
    assert Path(f"{out}{there}").read_text() == "precious"
    assert len(list(out.parent.iterdir())) == 1
    assert hpcfast(*args, "--overwrite").code == 0
    assert "normalise.mean" in load_file(out)


def test_places_that_cannot_be_written(hpcfast: Run, plain: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    args = (plain.folder, "--format", "safetensors", "--overwrite", "--out")
    assert_refused(hpcfast(*args, tmp_path / "file" / "x.safetensors"), "cannot be written", "File exists")
    assert_refused(hpcfast(*args, tmp_path), f"{tmp_path} is a folder; name a file")


def test_a_link_to_another_disk_stays_one(
    plain: RunConfig, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder is a disk of its own here, between which files cannot be moved."""
    replace = Path.replace

    def on_one_disk(self: Path, target: Path) -> Path:
        if target.parent not in self.parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", on_one_disk)
    out.parent.mkdir()
    (tmp_path / "scratch").mkdir()
    out.symlink_to(tmp_path / "scratch" / "large.pt")
    publish(RunDirectory(plain.folder), plain, "safetensors", out)
    assert out.is_symlink()
    assert "normalise.mean" in load_file(tmp_path / "scratch" / "large.pt")
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["large.pt"]


def test_runs_that_cannot_be_exported(hpcfast: Run, tiny: Callable[..., RunConfig], tmp_path: Path, out: Path) -> None:
    args = ("--format", "onnx", "--out", out)
    assert_refused(hpcfast(tmp_path / "none", *args), "none is no run directory")
    config = tiny("name=begun")
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text(config.dump())
    assert_refused(hpcfast(config.folder, *args), "finish the run first")
    assert not out.parent.exists()


def test_wrong_command_lines(hpcfast: Run, plain: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for args in (["--format", "pickle", "--out", out], ["--out", out], ["--format", "onnx"]):
        assert hpcfast(plain.folder, *args).code == 2
    monkeypatch.setenv("HOROVOD_RANK", "0")
    done = hpcfast(plain.folder, "--format", "safetensors", "--out", out)
    assert_refused(done, "without horovodrun or mpirun")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(
    package: str, hpcfast: Run, plain: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = hpcfast(plain.folder, "--format", "onnx", "--out", out)
    assert_refused(done, f"needs the package {package}", "HPCFAST_EXTRAS=onnx scripts/setup")


def shift_the_mean(model: nn.Module, images: Tensor, path: Path) -> None:
    """A writer that makes a mistake."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file({**state, "normalise.mean": state["normalise.mean"] + 0.01}, path)


def never_a_number(path: Path, settings: Any) -> Callable[[Tensor], Tensor]:
    """A reader of a file that is broken on some machine."""
    return lambda images: torch.full((len(images), 3), torch.nan)


@pytest.mark.parametrize("broken", [{"write": shift_the_mean}, {"read": never_a_number}])
def test_a_file_that_does_something_else_gets_no_name(
    broken: dict[str, Any], plain: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(plain.folder)
    publish(run, plain, "safetensors", out)
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    monkeypatch.setitem(FORMATS, "safetensors", dataclasses.replace(FORMATS["safetensors"], **broken))
    with pytest.raises(UserError, match=r"does not do what the run's model does: logits differ"):
        publish(run, plain, "safetensors", out, overwrite=True)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("norm", "eps", "written"), [("Linf", 8 / 255, "8/255"), ("Linf", 0.1, "0.1"), ("L2", 0.5, "0.5"), ("L2", 1, "1")]
)
@pytest.mark.parametrize(
    ("attack", "fills"),
    [
        ({"name": "autoattack", "version": "standard"}, True),
        ({"name": "autoattack", "version": "rand"}, False),
        ({"name": "apgd"}, False),
    ],
)
def test_robustbench_takes_standard_autoattack_only(
    norm: str, eps: float, written: str, attack: dict[str, Any], fills: bool, plain: RunConfig
) -> None:
    summary = RunDirectory(plain.folder).read_summary()
    assert summary
    summary |= {"norm": norm, "eps": eps, "attack": attack, "robust_accuracy": 0.5}
    info = card.about(plain, ("a", "b", "c"), summary, {"format": "robustbench"})
    assert info["eps"] == written
    assert info.get("autoattack_acc") == ("50.00" if fills else None)
