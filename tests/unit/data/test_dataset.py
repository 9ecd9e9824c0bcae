"""A run knows its data: what it resumes on, what its numbers rest on, and that nothing judges that also decides."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcfast.config import read_run
from hpcfast.data.dataset import overlap
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import checkpoint, guard, train, validation
from hpcfast.training.step import Learner
from tests.conftest import write_images
from tests.unit.data.test_bad_files import EVERY_STEP, Tiny
from tests.unit.whole_runs import Killed, at_call, die, logged, save_checkpoint


@pytest.fixture
def killed(tmp_path: Path, more_images: Path, tiny: Tiny, world: World) -> Any:
    """A run, killed in its second epoch, on data of its own."""
    config = tiny(f"data.path={shutil.copytree(more_images, tmp_path / 'data')}", EVERY_STEP)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", 5, die)
        with pytest.raises(Killed):
            train.train(config, world)
    return config


def rename_classes(data: Path) -> None:
    """Swap what labels mean: class0 becomes the last."""
    for split in ("train", "val"):
        (data / split / "class0").rename(data / split / "z")


def remove_class(data: Path) -> None:
    for split in ("train", "val"):
        shutil.rmtree(data / split / "class2")


def add_class(data: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(data / split / "class2", data / split / "class3")


def add_image(data: Path) -> None:
    shutil.copy(data / "train" / "class1" / "002.png", data / "train" / "class1" / "more.png")


@pytest.mark.parametrize("change", [rename_classes, remove_class, add_class])
def test_other_classes_are_never_trained_on_under_the_old_labels(
    killed: Any, world: World, change: Callable[[Path], None]
) -> None:
    change(killed.data.path)
    for accept in (False, True):
        with pytest.raises(UserError, match=r"the data have changed.*train: class.*put the classes back"):
            train.train(killed, world, accept_data=accept)


def test_changed_images_are_named_and_can_be_accepted(
    killed: Any, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image(killed.data.path)
    said = "train: class class1 has 11 images instead of 10"
    with pytest.raises(UserError, match=rf"{said}. Put the data back, continue with these by --accept-data"):
        train.train(killed, world)
    summary = train.train(killed, world, accept_data=True)
    assert f"{said}; accepted" in capsys.readouterr().out
    assert summary["data"]["images"] == {"train": 25, "held_out": 6, "val": 12}
    events = [json.loads(line) for line in (killed.folder / "events.jsonl").read_text().splitlines()]
    assert sum(event["key"] == "data_changed" for event in events) == 1


def test_the_same_data_resume_without_a_word(killed: Any, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    train.train(killed, world)
    assert "data have changed" not in capsys.readouterr().out


def forget_data(config: Any) -> None:
    """Have the last checkpoint be as those of earlier versions."""
    place = config.folder / "checkpoints"
    state = checkpoint.load_last(place)
    assert state is not None
    del state["data"], state["format"]
    save_checkpoint(place, state["position"]["step"], state)


def test_a_checkpoint_that_knows_no_data_resumes_with_one_warning(
    killed: Any, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_data(killed)
    train.train(killed, world)
    assert capsys.readouterr().out.count("did not note its data") == 1


def moved(config: Any, tiny: Tiny, tmp_path: Path) -> Any:
    """The configuration that names another copy of the data of ``config``."""
    return tiny(f"data.path={shutil.copytree(config.data.path, tmp_path / 'copy')}", EVERY_STEP)


def test_a_run_resumes_on_the_same_images_elsewhere(killed: Any, tiny: Tiny, world: World, tmp_path: Path) -> None:
    copy = moved(killed, tiny, tmp_path)
    shutil.rmtree(killed.data.path)
    assert train.train(copy, world)["status"] == "finished"
    assert len(logged(copy, "requeue")) == 1
    assert read_run(RunDirectory(killed.folder)) == copy, "where evaluations look for them"


def test_a_run_does_not_resume_on_other_images_elsewhere(killed: Any, tiny: Tiny, world: World, tmp_path: Path) -> None:
    copy = moved(killed, tiny, tmp_path)
    add_image(copy.data.path)
    with pytest.raises(UserError, match=r"the data have changed since .*train: class class1 has 11 images"):
        train.train(copy, world)
    assert read_run(RunDirectory(killed.folder)) == killed
    train.train(copy, world, accept_data=True)
    assert read_run(RunDirectory(killed.folder)) == copy


def test_a_run_without_a_checkpoint_begins_with_the_data_it_is_given(
    tiny: Tiny, world: World, tmp_path: Path, more_images: Path
) -> None:
    config = tiny("epochs=1")
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, checkpoint, "write", 1, die)
        with pytest.raises(Killed):
            train.train(config, world)
    copy = tiny(f"data.path={shutil.copytree(more_images, tmp_path / 'copy')}", "epochs=1")
    add_image(copy.data.path)
    assert train.train(copy, world)["data"]["images"]["train"] == 25
    assert read_run(RunDirectory(config.folder)) == copy


def test_a_finished_run_speaks_for_its_own_images_only(
    tiny: Tiny, world: World, tmp_path: Path, more_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny("epochs=1")
    summary = train.train(config, world)
    copy = tiny(f"data.path={shutil.copytree(more_images, tmp_path / 'copy')}", "epochs=1")
    assert train.train(copy, world) == json.loads(json.dumps(summary))
    assert "is finished already" in capsys.readouterr().out
    add_image(copy.data.path)
    with pytest.raises(UserError) as caught:
        train.train(copy, world)
    said = f"{config.folder} is finished, with other images than those in data.path={copy.data.path} "
    said += "(train: 25 images instead of 24 others). Put the data back, or give another name= to train on these"
    assert str(caught.value) == said
    assert read_run(RunDirectory(config.folder)) == config, "it says where the run was trained"


def test_a_checkpoint_that_knows_no_data_is_bound_to_their_path(
    killed: Any, tiny: Tiny, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_data(killed)
    copy = moved(killed, tiny, tmp_path)
    with pytest.raises(UserError, match=r"did not note its data.*data\.path in its config\.yaml.*--accept-data"):
        train.train(copy, world)
    train.train(copy, world, accept_data=True)
    assert capsys.readouterr().out.count("did not note its data") == 1


def test_monitor_and_guard_never_see_what_judges(
    more_images: Path, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {kind: set() for kind in ("monitor", "guard", "judged", "trained")}
    for module, name, kind in ((validation, "evaluate", "monitor"), (guard, "shared_out", "guard")):
        original = getattr(module, name)

        def spy(*args: Any, original: Any = original, kind: str = kind, **kwargs: Any) -> Any:
            seen[kind].update(next(a for a in args if isinstance(a, Split)).files)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, spy)
    kept = validation.evaluate_cached

    def judge(model: Any, split: Any, *args: Any, **kwargs: Any) -> Any:
        seen["judged"].update(split.files)
        return kept(model, split, *args, **kwargs)

    monkeypatch.setattr(validation, "evaluate_cached", judge)
    step = Learner.step

    def trained(self: Any, batches: Any, *args: Any) -> Any:
        seen["trained"].update(split.files[i] for batch in batches for i in batch.ids.tolist())
        return step(self, batches, *args)

    config = tiny("guard={every: 1, images: 6, attack: {name: pgd, steps: 2}}", "target=0.001", "epochs=1")
    split = train.dataset.read(config.data, world).train
    monkeypatch.setattr(Learner, "step", trained)
    summary = train.train(config, world)
    assert len(seen["monitor"]) == 6
    assert seen["guard"] == seen["monitor"]
    assert len(seen["trained"]) == 24
    assert seen["monitor"] | seen["trained"] == {*read_splits(more_images)[0].files}
    assert seen["judged"] == {*read_splits(more_images)[1].files}
    assert summary["data"]["measured_on"] == {
        "monitor": "held_out", "guard": "held_out", "final": "val", "confirm": "val",
    }  # fmt: skip
    assert summary["data"]["compared"]["val"] == "names, sizes and the content of 12 images"


def test_without_held_out_images_the_monitor_and_the_guard_are_refused(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match=r"data.held_out: 0 .*evaluation.every=0 guard.every=0"):
        train.train(tiny("data.held_out=0"), world)
    train.train(tiny("data.held_out=0", "evaluation.every=0", "epochs=1"), world)


def test_holding_all_images_out_is_refused(tiny: Tiny, world: World) -> None:
    with pytest.raises(UserError, match=r"data.held_out: 30 of the 30 images in .*/train would leave none"):
        train.train(tiny("data.held_out=30"), world)


def test_validation_images_among_the_training_images_are_said(
    tmp_path: Path, tiny: Tiny, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path / "data", {"train": 10, "val": 4}, classes=3)
    for i in range(3):
        shutil.copy(root / "train" / "class0" / f"00{i}.png", root / "val" / "class0" / f"leak{i}.png")
    (said,) = overlap(*read_splits(root))
    start = f"{root / 'val'}: 3 of 15 images looked at are among the training images, too"
    assert re.match(re.escape(start) + r" \(class0/leak[012]\.png and 2 more\): accuracy", said)
    train.train(tiny(f"data.path={root}", "epochs=1"), world)
    assert said in capsys.readouterr().out


def test_two_unreadable_files_are_no_common_image(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data", {"train": 3, "val": 3}, classes=2)
    for split in ("train", "val"):
        (root / split / "class0" / "000.png").write_bytes(b"")
    assert overlap(*read_splits(root)) == []
