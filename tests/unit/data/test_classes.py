"""Classes of images and of a network are matched by name."""

from pathlib import Path

import numpy as np
import pytest

from hpcfast.data import packed
from hpcfast.data.made import SyntheticSplit
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split, match
from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.errors import UserError

ORIGIN = "runs/x/model.json"


def split(*names: str) -> Split:
    files = [f"/d/val/{name}/{i}.png" for name in names for i in range(2)]
    return Split(Path("/d/val"), files, np.repeat(np.arange(len(names)), 2), names, skips={3: "torn"})


def named(found: Split) -> list[str]:
    """The class of each image, as the matched split tells it."""
    return [found.classes[label] for label in found.labels]


def test_the_same_classes_in_the_same_order_need_no_word() -> None:
    before = split("cat", "dog")
    after, said = match(before, ("cat", "dog"), ORIGIN)
    assert said == []
    assert (after.classes, after.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1])


def test_fewer_classes_than_the_networks_take_its_numbers() -> None:
    before = split("cat", "dog")
    after, said = match(before, ("ant", "cat", "cow", "dog"), ORIGIN)
    assert after.labels.tolist() == [1, 1, 3, 3]
    assert after.labels.dtype == np.int64
    assert named(after) == named(before)
    assert said == ["the data have 2 of the model's 4 classes"]
    assert (after.files, dict(after.skips)) == (before.files, {3: "torn"})


def test_another_order_is_followed_and_said() -> None:
    before = split("cat", "dog", "eel")
    after, said = match(before, ("eel", "dog", "cat"), ORIGIN)
    assert after.labels.tolist() == [2, 2, 1, 1, 0, 0]
    assert named(after) == named(before)
    assert len(said) == 1
    assert "another order" in said[0]


def test_matching_twice_changes_nothing_more() -> None:
    once, _ = match(split("cat", "dog"), ("dog", "cat"), ORIGIN)
    twice, said = match(once, ("dog", "cat"), ORIGIN)
    assert (twice.labels.tolist(), said) == (once.labels.tolist(), [])


def test_a_class_that_the_network_does_not_know_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        match(split("cat", "dog", "wolf"), ("cat", "dog", "cow"), ORIGIN)
    for part in ("/d/val", ORIGIN, "1 of its 3 classes: 'wolf'", "it knows 3: 'cat', 'dog', 'cow'", "rename"):
        assert part in str(caught.value)


def test_a_thousand_names_are_not_all_shown() -> None:
    with pytest.raises(UserError) as caught:
        match(split("cat", "dog"), tuple(f"n{i:08}" for i in range(1000)), ORIGIN)
    assert "it knows 1000: 'n00000000', 'n00000001', 'n00000002', 'n00000003', 'n00000004', …" in str(caught.value)


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="names the class 'cat' twice"):
        match(split("cat", "dog"), ("cat", "dog", "cat"), ORIGIN)


def test_splits_without_files_are_matched_too() -> None:
    _, val = read_splits(Path("synthetic:40x4"))
    after, _ = match(val, tuple(reversed(val.classes)), ORIGIN)
    assert isinstance(after, SyntheticSplit)
    assert named(after) == named(val)


def test_a_pack_keeps_its_images(images: Path, tmp_path: Path) -> None:
    pack(images, tmp_path / "pack", Recipe(1, None, 0), lambda *progress: None)
    before = read_splits(tmp_path / "pack")[1]
    assert isinstance(before, packed.PackedSplit)
    after, _ = match(before, ("other", *reversed(before.classes)), ORIGIN)
    assert named(after) == named(before)
    assert [bytes(after.encoded(i)) for i in range(len(after))] == [
        bytes(before.encoded(i)) for i in range(len(before))
    ]
    assert named(after.at(np.array([5, 2]))) == [named(before)[5], named(before)[2]]
