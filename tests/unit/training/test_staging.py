"""``data.stage``: a run reads a copy of its pack, and is the run that it would be without."""

import csv
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcfast import cli
from hpcfast.config import RunConfig, read_run
from hpcfast.datasets.packs import stage
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.signals import EXIT_STOPPED
from hpcfast.training import train
from hpcfast.training.step import Learner
from tests.unit.whole_runs import Killed, assert_equal_ends, at_call, die, terminate

Tiny = Callable[..., RunConfig]
DISK = "data.stage=$DISK/local"


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory, more_images: Path) -> Path:
    """The images of tiny runs as a pack; don't write into it."""
    place = tmp_path_factory.mktemp("master") / "shapes-pack"
    pack(more_images, place, Recipe(1, None, 0), lambda *_: None)
    return place


@pytest.fixture(scope="session")
def unstaged(elsewhere: Tiny, master: Path, world: World) -> RunConfig:
    """A run that reads the pack itself."""
    config = elsewhere("name=unstaged", f"data.path={master}")
    train.train(config, world)
    return config


@pytest.fixture
def packed(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    return Path(shutil.copytree(master, tmp_path / "shapes-pack"))


def copied(disk: Path) -> Path:
    return disk / "local" / f"hpcfast-{os.getuid()}" / "shapes-pack"


def lose_the_shards(patch: pytest.MonkeyPatch, packed: Path) -> None:
    """The pack's images are gone as soon as they have been copied."""
    original = train.copy_data

    def copy(*arguments: Any) -> Path:
        place = original(*arguments)
        shutil.rmtree(packed / "train")
        shutil.rmtree(packed / "val")
        return place

    patch.setattr(train, "copy_data", copy)


def test_a_run_on_a_copy_is_the_run_on_the_pack(
    unstaged: RunConfig, packed: Path, tiny: Tiny, world: World, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = tiny(f"data.path={packed}", DISK)
    lose_the_shards(monkeypatch, packed)
    summary = train.train(config, world)
    assert_equal_ends(config, unstaged)
    assert f"{copied(tmp_path / 'disk')}: 0.1 MB on 1 node, 0.1 MB read from {packed}" in capsys.readouterr().out
    assert summary["dataset"] == "shapes-pack"
    there = yaml.safe_load((config.folder / "config.yaml").read_text())["data"]
    assert (there["path"], there["stage"]) == (str(packed), "$DISK/local"), "as they were given"
    (table,) = config.folder.glob("evaluations/*/images.csv")
    with table.open() as lines:
        names = [row[1] for row in csv.reader(lines)][1:]
    assert len(names) == 12
    assert all(name.startswith(f"{packed}/val/shard-000000.tar/") for name in names), "copies come and go"


def test_a_run_resumes_whatever_its_disk_is_called(
    unstaged: RunConfig, packed: Path, tiny: Tiny, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(f"data.path={packed}", DISK)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", 5, die)
        with pytest.raises(Killed):
            train.train(config, world)
    shutil.rmtree(tmp_path / "disk")
    monkeypatch.setenv("DISK", str(tmp_path / "job-2"))
    moved = tiny(f"data.path={packed.rename(tmp_path / 'moved')}", "data.stage=$DISK/elsewhere/{node}")
    train.train(moved, world)
    assert_equal_ends(moved, unstaged)
    assert read_run(RunDirectory(config.folder)) == moved


def test_a_finished_run_and_one_that_is_refused_need_no_copy(
    packed: Path, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(f"data.path={packed}", DISK, "epochs=1")
    train.train(config, world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "stage", None)
        assert train.train(config, world)["status"] == "finished"
        assert "is finished already" in capsys.readouterr().out
        with pytest.raises(UserError, match="another configuration"):
            train.train(tiny(f"data.path={packed}", DISK, "epochs=2"), world)
    again: list[int] = []
    at_call(monkeypatch, stage, "stage", 1, lambda: again.append(1))
    train.train(config, world, overwrite=True)
    assert again


def test_images_that_the_packs_own_list_names_are_left_out(packed: Path, tiny: Tiny, world: World) -> None:
    (packed / "skips.txt").write_text("train/shard-000000.tar/00000001.png\tis ugly\n")
    config = tiny(f"data.path={packed}", DISK)
    data = train.dataset.read(config.data, world, train.copy_data(config.data, world))
    assert len(data.train.good) + len(data.held_out.good) == 29


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(
    value: str | None, packed: Path, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISK")
    if value is not None:
        monkeypatch.setenv("DISK", value)
    monkeypatch.setenv(stage.VARIABLE, "n7")
    with pytest.raises(UserError, match=r"data\.stage: \$DISK/local: DISK is not set on node n7; set it in"):
        train.train(tiny(f"data.path={packed}", DISK), world)
    assert not tiny().folder.exists()


@pytest.mark.parametrize("path", ["more_images", "synthetic:30x3", "nowhere"])
def test_only_packs_are_copied(path: str, packed: Path, more_images: Path, tiny: Tiny, world: World) -> None:
    path = str(more_images) if path == "more_images" else path
    with pytest.raises(UserError, match=f"data.stage: {path} is no pack.*'hpcfast data pack', or leave data.stage out"):
        train.train(tiny(f"data.path={path}", DISK), world)


def test_a_folder_that_holds_something_else_is_called_by_the_settings_name(
    packed: Path, tiny: Tiny, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil._ntuple_diskusage(9, 9, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match=r"make room or give another data\.stage$"):
        train.train(tiny(f"data.path={packed}", DISK), world)


def test_a_stop_while_it_copies_is_said_and_keeps_what_is_copied(
    packed: Path, tiny: Tiny, world: World, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = [f"data.path={packed}", f"runs={tmp_path / 'runs'}", DISK, "epochs=1"]
    tiny()
    monkeypatch.setattr(sys, "argv", ["hpcfast", "train", str(tmp_path / "tiny.yaml"), *settings])
    codes = []
    for call in (3, 0):
        with pytest.MonkeyPatch.context() as patch:
            at_call(patch, stage, "hashed", call, terminate)
            with pytest.raises(SystemExit) as caught:
                cli.main()
        codes.append(caught.value.code or 0)
        said = "SIGTERM: stopped; what is done is kept, and the same command resumes\n"
        assert capfd.readouterr().err == (said if call else "")
        half = copied(tmp_path / "disk").with_name("shapes-pack.part")
        assert len([*half.glob("*/shard-*")]) == (2 if call else 0)
        assert (tmp_path / "runs").exists() == (call == 0), "the run has not begun"
    assert codes == [EXIT_STOPPED, 0]
