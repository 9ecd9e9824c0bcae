"""Files that turn bad while a run is under way: named, left out, and all else is as if it had been known before."""

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcfast.config import RunConfig
from hpcfast.data import feed
from hpcfast.data.dataset import hold_out
from hpcfast.data.order import train_order
from hpcfast.data.readahead import BadImages
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import evaluate
from hpcfast.training import loop, train
from hpcfast.training.step import Learner
from tests.conftest import write_images
from tests.unit.loading import AUGMENTS, CPU, settings
from tests.unit.whole_runs import Killed, assert_equal_ends, at_call, die, logged

Tiny = Callable[..., RunConfig]
HERE = feed.Shard(0, 1, CPU, 1)
EVERY_STEP = "checkpoint.minutes=1.0e-9"


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "GIF")
    return file.getvalue()


def dangle(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere")


KINDS: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "text": lambda file: file.write_text("This is no image."),
    "gif": lambda file: file.write_bytes(gif()),
    "dangling": dangle,
    "vanished": Path.unlink,
    "folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 6 JPEG files a split."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(6):
                Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).save(
                    tmp_path / split / label / f"{i}.jpg", quality=95
                )
    return tmp_path


@pytest.mark.parametrize("bad", [0, 11])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_named_after_all_batches_before_it(photos: Path, kind: str, bad: int) -> None:
    split = read_splits(photos)[0]
    KINDS[kind](Path(split.files[bad]))
    for augment in AUGMENTS:
        batches = feed.batches(split, np.arange(12), settings(photos, 12, augment=augment), HERE, 4, 1)
        before = [i for _ in range(bad // 4) for i in next(batches).ids.tolist()]
        assert before == list(range(bad // 4 * 4))
        with pytest.raises(BadImages, match=rf"{split.files[bad]} (is empty|cannot be).*hpcfast data verify") as raised:
            next(batches)
        assert [*raised.value.faults] == [bad]


def test_a_batch_that_cannot_be_decoded_names_its_own_images_only(photos: Path) -> None:
    split = read_splits(photos)[0]
    data = Path(split.files[1]).read_bytes()
    table = data.index(b"\xff\xc4") + 5
    Path(split.files[1]).write_bytes(data[:table] + b"\xff" * 16 + data[table + 16 :])
    Path(split.files[5]).write_bytes(b"")  # in the next batch, which has been read ahead
    with pytest.raises(BadImages) as raised:
        next(feed.batches(split, np.arange(12), settings(photos, 12), HERE, 4, None))
    assert raised.value.faults == {1: "cannot be decoded"}


def trained_on(root: Path, listed: Path | None = None) -> Split:
    """What a tiny run on ``root`` trains on."""
    return hold_out(read_splits(root, listed)[0], 6)[0]


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Three classes of 9 training and 4 validation images, 3 and 2 of which are bad, and of 2 to hold out.

    Of a tiny run's first epoch they are in the first batch, in the second and in the last.
    """
    root = write_images(tmp_path / "spoilt", {"train": 11, "val": 4}, classes=3)
    train_split, val_split = trained_on(root), read_splits(root)[1]
    order = train_order(27, 0, 0, 1, 8)
    for place, kind in ((0, "text"), (9, "empty"), (23, "dangling")):
        KINDS[kind](Path(train_split.files[order[place]]))
    for image, kind in ((0, "gif"), (11, "empty")):
        KINDS[kind](Path(val_split.files[image]))
    return root


@pytest.fixture
def read_ids(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """Epoch and ids of each step that is trained."""
    steps: list[tuple[int, list[int]]] = []

    def record(self: loop.Loop, loss: Any, lr: float, batches: Any) -> None:
        steps.append((self.run.course.epoch, batches[0].ids.tolist()))

    monkeypatch.setattr(loop.Loop, "_look_at", record)
    return steps


def test_a_run_that_meets_bad_files_equals_one_that_knew_them(
    spoilt: Path, tiny: Tiny, world: World, read_ids: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(f"data.path={spoilt}", "name=unaware")
    summary = train.train(config, world)
    out = capsys.readouterr().out
    found = (config.folder / "skips.txt").read_text()
    bad = [line.split("\t")[0] for line in found.splitlines() if not line.startswith("#")]
    assert len(bad) == 3
    assert all(f"{spoilt}/{name} " in out for name in bad), "each is named"
    assert "left out of the evaluation: val/class0/000.png cannot be decoded: it is a GIF; read are " in out
    assert "; val/class2/003.png is empty" in out
    assert summary["n_eval"] == 10
    train_split = trained_on(spoilt, config.folder / "skips.txt")
    for epoch in range(3):
        counts = Counter(i for at, ids in read_ids for i in ids if at == epoch)
        assert counts == Counter(train_split.good.tolist()), "every good image once"

    (spoilt / "skips.txt").write_text(found + "val/class0/000.png\tbad\nval/class2/003.png\tbad\n")
    known = tiny(f"data.path={spoilt}", "name=known")
    train.train(known, world)
    assert_equal_ends(config, known)
    assert len(logged(config, "left_out")) > len(logged(known, "left_out")) == 0


@pytest.mark.parametrize("call", [2, 5])
def test_a_kill_after_bad_files_changes_nothing(
    spoilt: Path, tiny: Tiny, world: World, read_ids: list[Any], call: int
) -> None:
    straight, killed = (tiny(f"data.path={spoilt}", f"name={name}", EVERY_STEP) for name in ("straight", "killed"))
    train.train(straight, world)
    expected = read_ids[:]
    read_ids.clear()
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", call, die)
        with pytest.raises(Killed):
            train.train(killed, world)
    steps = len(read_ids)
    train.train(killed, world)
    again = steps - (len(read_ids) - len(expected))
    assert read_ids[:steps] == expected[:steps]
    assert read_ids[steps:] == expected[again:]
    assert_equal_ends(killed, straight)


def test_images_found_bad_between_two_starts_are_taken_out_of_what_was_done(
    tmp_path: Path, more_images: Path, tiny: Tiny, world: World, read_ids: list[Any]
) -> None:
    config = tiny(f"data.path={shutil.copytree(more_images, tmp_path / 'copy')}", "data.batch_size=4", EVERY_STEP)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Learner, "step", 4, die)
        with pytest.raises(Killed):
            train.train(config, world)
    order = train_order(24, 0, 0, 1, 4).tolist()
    names = [trained_on(more_images).files[i].removeprefix(f"{more_images}/") for i in (order[1], *order[-4:])]
    (tmp_path / "copy" / "skips.txt").write_text("".join(f"{name}\tbad\n" for name in names))
    trained = len(read_ids)
    train.train(config, world)
    ids = [i for epoch, step in read_ids[trained:] for i in step if epoch == 0]
    done = 24 - 4 - len(ids)
    assert done in (8, 12)
    assert ids == order[done:-4], "it goes on where it was, without the four that were still to come"


@pytest.mark.parametrize(
    ("bad", "batch", "message"),
    [(11, 4, "11 of 24 images are bad, more than 10: .*Is the disk there"), (3, 24, "21 good images are left.*global")],
)
def test_too_many_bad_files_end_the_run_with_one_message(
    tmp_path: Path, more_images: Path, tiny: Tiny, world: World, bad: int, batch: int, message: str
) -> None:
    copy = shutil.copytree(more_images, tmp_path / "copy")
    for file in trained_on(copy).files[:bad]:
        Path(file).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        train.train(tiny(f"data.path={copy}", f"data.batch_size={batch}"), world)


def test_an_evaluation_without_a_good_image_is_refused(spoilt: Path, tiny: Tiny, world: World) -> None:
    config = tiny(f"data.path={spoilt}", "evaluation.final.images=1")
    with pytest.raises(UserError, match="1 of 12 images are bad, more than 0"):
        evaluate(config.model.build(3), read_splits(spoilt)[1], config, config.evaluation.final, world)


def test_a_guard_without_a_good_image_ends_with_one_message(
    tmp_path: Path, more_images: Path, tiny: Tiny, world: World
) -> None:
    copy = shutil.copytree(more_images, tmp_path / "copy")
    for file in hold_out(read_splits(copy)[0], 6)[1].files:
        Path(file).write_bytes(b"")
    with pytest.raises(UserError, match="none of the 6 images that the guard looks at can be read"):
        train.train(tiny(f"data.path={copy}", "guard.every=1", "evaluation.every=0", "epochs=1"), world)
