"""Clean accuracy of others' weights on real images is that of ten lines of torch and Pillow, image by image."""

from pathlib import Path

import pytest

from hpcfast.distributed.comm import World
from tests.real.measuring import Found, chosen, measured
from tests.real.networks import Case, classes

pytestmark = pytest.mark.real


def compare(case: Case, world: World, tmp_path: Path, images: int) -> tuple[Found, int]:
    """What was found, and for how many images plain torch and Pillow find another class."""
    found = measured(
        case, world, tmp_path, "evaluation.final.attack.name=standard", f"evaluation.final.images={images}"
    )
    plain = classes(case.network(), found.files)
    differ = sum(a != b for a, b in zip(found.clean, plain, strict=True))
    right = [sum(a == b for a, b in zip(taken, found.truth, strict=True)) for taken in (found.clean, plain)]
    print(
        f"{case.arch}: {right[0]} of {images} right here, {right[1]} by plain torch; {differ} taken for another class"
    )
    assert len(found.files) == images
    return found, differ


def test_a_thin_resnet_on_cifar10(thin: Case, full: bool, world: World, tmp_path: Path) -> None:
    images = 5000 if full else 500
    found, differ = compare(thin, world, tmp_path, images)
    assert differ <= images // 500, "decoders may round differently, and rarely does that matter"
    accuracy = sum(found.held) / images
    assert 0.77 < accuracy < 0.88, "81.0 and 83.2 % on all 10,000 test images"


def test_a_network_of_a_thousand_classes_on_ten_of_them(lite: Case, full: bool, world: World, tmp_path: Path) -> None:
    images = 500 if full else 50
    found, differ = compare(lite, world, tmp_path, images)
    assert differ <= images // 100
    assert sum(found.held) / images > 0.6, "chance is 0.001"
    assert {*found.truth} == {0, 217, 482, 491, 497, 566, 569, 571, 574, 701}
    assert any("ImageNet-1k" in sentence for sentence in chosen(lite).said)
