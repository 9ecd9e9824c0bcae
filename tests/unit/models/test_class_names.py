"""What the classes of foreign weights are called, and that an evaluation counts by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.data import ImageNetInfo

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import session
from hpcfast.evaluation.session import Subject, measure
from hpcfast.models import ModelSettings, pretrained
from hpcfast.models.pretrained import class_names

FILE = Path("weights.pt")
WORDNET = ["n01440764", "n02102040", "n03888257"]  # a tench, a springer, a parachute


def found(count: int, folders: list[str], beside: tuple[str, ...] | None = None, listed: Path | None = None) -> Any:
    return class_names.find(FILE, count, beside, listed, folders)


def lines(tmp_path: Path, *text: str) -> Path:
    (tmp_path / "classes.txt").write_text("\n".join(text))
    return tmp_path / "classes.txt"


def test_a_list_comes_before_all_else(tmp_path: Path) -> None:
    listed = lines(tmp_path, "dog", " cat ", "", "eel", "")
    assert found(3, ["cat", "dog", "eel"], ("a", "b", "c"), listed).names == ("dog", "cat", "eel")


def test_what_stands_beside_the_file_comes_before_a_guess() -> None:
    assert found(2, ["cat", "dog"], ("dog", "cat")) == (("dog", "cat"), "the model of weights.pt", [])


def test_a_thousand_classes_and_wordnet_ids_are_imagenet() -> None:
    one = found(1000, WORDNET)
    assert [one.names.index(name) for name in WORDNET] == [0, 217, 701]
    assert "ImageNet-1k" in one.said[0]
    assert found(1000, ImageNetInfo().label_names()).names == tuple(ImageNetInfo().label_names())


def test_as_many_folders_as_classes_are_taken_in_their_order_and_that_is_said() -> None:
    one = found(3, ["cat", "dog", "eel"])
    assert one.names == ("cat", "dog", "eel")
    assert "alphabetical order, as torchvision's ImageFolder" in one.said[0]


@pytest.mark.parametrize(("count", "folders"), [(1000, ["tench", *WORDNET]), (10, WORDNET), (2, WORDNET)])
def test_where_nothing_says_which_is_which_it_is_refused(count: int, folders: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        found(count, folders)
    for part in (f"tells {count} classes apart", f"the data have {len(folders)} (", "--classes FILE", "one a line"):
        assert part in str(caught.value)


def test_a_list_of_another_length_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--classes .*classes.txt names 2 classes, but weights.pt tells 3 apart"):
        found(3, ["cat", "dog", "eel"], None, lines(tmp_path, "cat", "dog"))
    with pytest.raises(UserError, match=r"the file beside weights.pt names 2 classes, but weights.pt tells 3 apart"):
        found(3, ["cat", "dog", "eel"], ("cat", "dog"))
    with pytest.raises(UserError, match=r"--classes .*none.txt cannot be read"):
        found(2, ["cat", "dog"], None, tmp_path / "none.txt")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of 4 classes for grey images of 10 pixels, in an order that no sorting gives."""
    torch.manual_seed(0)
    settings = ModelSettings(name="cifar_resnet8", options={"width": 2}, mean=(0.5,), std=(0.25,))
    torch.save(settings.build(4).get_submodule("net").state_dict(), tmp_path / "w.pt")
    about = {"model": settings.model_dump(), "classes": ["class2", "other", "class0", "class1"]}
    (tmp_path / "w.pt.json").write_text(json.dumps(about))
    return tmp_path / "w.pt"


def chosen(weights: Path, images: Path, tmp_path: Path, classes: Path | None = None) -> Subject:
    given = session.Elsewhere(arch="cifar_resnet8", classes=classes, data=images, size=10)
    changes = ["threat.eps=0.01", "evaluation.final.attack.name=fgsm_rs", "data.threads=1"]
    return session.of_weights(weights, given, changes, tmp_path / "out")


def per_class(what: Subject, world: World) -> dict[str, float]:
    """Clean accuracy of each class, by its folder."""
    import csv

    _, place = measure(what, world)
    rows = list(csv.DictReader((place / "images.csv").open()))
    folders = {row["id"]: Path(row["file"]).parent.name for row in rows}
    assert all(row["class"] == folders[row["id"]] for row in rows)
    return {name: sum(r["clean"] == name for r in rows if r["class"] == name) for name in sorted({*folders.values()})}


def test_the_notes_have_the_names_beside_the_file(weights: Path) -> None:
    notes = pretrained.load(weights)[1]
    assert (notes.outputs, notes.classes) == (4, ("class2", "other", "class0", "class1"))
    weights.with_name("w.pt.json").write_text(json.dumps({"model": notes.model.model_dump()}))
    assert pretrained.load(weights)[1].classes is None


def test_an_evaluation_counts_by_name(weights: Path, images: Path, world: World, tmp_path: Path) -> None:
    what = chosen(weights, images, tmp_path)
    x = torch.rand(64, 1, 10, 10)
    assert what.split.classes == ("class2", "other", "class0", "class1")
    assert what.model(x).shape == (64, 4)
    assert "the data have 3 of the model's 4 classes" in what.said
    counts = per_class(what, world)

    # The same images in folders that are called otherwise: only what they are called changes.
    turned = Path(shutil.copytree(images, tmp_path / "turned"))
    for part in ("train", "val"):
        for old, new in (("class0", "zebra"), ("class1", "ape"), ("class2", "mole")):
            (turned / part / old).rename(turned / part / new)
    listed = lines(tmp_path, "mole", "other", "zebra", "ape")
    again = per_class(chosen(weights, turned, tmp_path, listed), world)
    assert again == {"ape": counts["class1"], "mole": counts["class2"], "zebra": counts["class0"]}


def test_a_folder_that_the_network_does_not_know_is_refused(weights: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--classes .* does not know 1 of its 3 classes: 'class1'; it knows 4: 'a'"):
        chosen(weights, images, tmp_path, lines(tmp_path, "a", "class0", "class2", "b"))
    weights.with_name("w.pt.json").unlink()
    with pytest.raises(UserError, match="does not say how images are normalised"):
        chosen(weights, images, tmp_path)


def test_skipped_images_are_left_out_where_a_setting_names_their_list(
    weights: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_text("val/class0/000.png\n")
    given = session.Elsewhere(data=images, size=10)
    what = session.of_weights(weights, given, ["threat.eps=0.01", f"data.skips={tmp_path / 'bad.txt'}"], None)
    assert len(what.split.good) == len(what.split) - 1


Tiny = Callable[..., RunConfig]


def test_corruptions_are_counted_by_name(weights: Path, made: Path, tiny: Tiny, world: World, tmp_path: Path) -> None:
    from hpcfast.evaluation.corruptions import measure as corrupted

    class Names(torch.nn.Module):
        """Guesses the brightest edge, in the order of ``weights``."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zero, one, two = x[:, 0, 4, 9], x[:, 0, 0, 4], x[:, 0, 4, 0]
            return torch.stack((two, torch.full_like(two, -1), zero, one), 1)

    class Sorted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack((x[:, 0, 4, 9], x[:, 0, 0, 4], x[:, 0, 4, 0]), 1)

    by_name = corrupted(Names(), made, ("class2", "other", "class0", "class1"), tiny(), world)
    by_place = corrupted(Sorted(), made, ("class0", "class1", "class2"), tiny(), world)
    assert by_name["rows"] == by_place["rows"]
    assert by_name["said"][0] == "the data have 3 of the model's 4 classes"
    assert by_place["said"] == []
