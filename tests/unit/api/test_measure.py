"""``hpcfast.evaluate`` and ``hpcfast.loader``: what ``hpcfast eval`` measures, image by image."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hpcfast
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.evaluation import masking, session
from tests.conftest import write_images
from tests.unit.nets import trained_digits


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "look", lambda *_: {"signs": ["it looks odd"]})


ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("pgd", {"steps": 3, "restarts": 2}),
    ("apgd", {"steps": 6, "targets": 2}),
    ("square", {"queries": 30}),
    ("fgsm_rs", {}),
]


@pytest.mark.parametrize(("attack", "settings"), ATTACKS, ids=[name for name, _ in ATTACKS])
def test_outcomes_are_those_of_the_command_image_by_image(
    attack: str, settings: dict[str, Any], plain: RunConfig, world: World, tmp_path: Path, quick: None
) -> None:
    changes = [f"evaluation.final.attack.{key}={value}" for key, value in {"name": attack, **settings}.items()]
    what = session.named(plain.folder, None, session.Elsewhere(), changes, tmp_path)
    result, place = session.measure(what, world)
    model = hpcfast.load(plain.folder)
    data = hpcfast.loader(plain.data.path, size=10, channels=1, batch_size=5)
    images = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    threat = {"norm": plain.threat.norm, "eps": plain.threat.eps, "seed": plain.seed}
    for source in (data, images, DataLoader(TensorDataset(*images), batch_size=7)):
        found = hpcfast.evaluate(model, source, attack=attack, progress=False, **threat, **settings)
        rows = list(csv.DictReader((place / "images.csv").open()))
        assert [
            (model.classes[o.label], model.classes[o.clean], model.classes[o.attacked]) for o in found.outcomes
        ] == [(row["class"], row["clean"], row["attacked"]) for row in rows]
        assert [o.fooled_by or "" for o in found.outcomes] == [row["fooled_by"] for row in rows]
        assert found.robust_accuracy == result["robust_accuracy"] == sum(o.robust for o in found.outcomes) / 12
        assert (found.clean_accuracy, found.n_eval, found.ci95) == tuple(
            result[key] for key in ("clean_accuracy", "n_eval", "ci95")
        )
        assert found.warnings == ["it looks odd"]
    x, y = images
    attacks = {"pgd": hpcfast.PGD, "apgd": hpcfast.APGD, "square": hpcfast.Square, "fgsm_rs": hpcfast.FGSM}
    early = {"stop_early": True} if attack == "pgd" else {}
    x_adv = attacks[attack](model, **threat, **settings, **early)(x, y)
    robust = (model(x).argmax(1) == y) & (model(x_adv).argmax(1) == y)
    assert robust.tolist() == [o.robust for o in found.outcomes]


def test_what_it_says(quick: None) -> None:
    model, x, y = trained_digits()
    found = hpcfast.evaluate(model, (x, y), eps=0.1, attack="pgd", curve=[0.05], images=50, progress=False)
    low, high = found.ci95["robust_accuracy"]
    assert str(found) == (
        "clean_accuracy   1.0000   95 % interval 0.9287 to 1.0000, n = 50\n"
        f"robust_accuracy  {found.robust_accuracy:.4f}   95 % interval {low:.4f} to {high:.4f}, n = 50\n"
        "warning: masked gradients? it looks odd"
    )
    assert [point["eps"] for point in found.details["curve"]] == [0.05, 0.1]
    assert {o.eps for o in found.outcomes} == {None, 0.05, 0.1}
    assert [o.image for o in found.outcomes] == [2 * i for i in range(50)]


def test_the_model_stays_as_it_is(quick: None) -> None:
    model, x, y = trained_digits()
    model.zero_grad()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hpcfast.evaluate(model, (x[:20], y[:20]), attack="pgd", progress=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(weights.requires_grad and weights.grad is None for weights in model.parameters())


def test_masked_gradients_are_looked_for() -> None:
    model, x, y = trained_digits()
    steep = nn.Sequential(model, Steep()).eval()
    found = hpcfast.evaluate(steep, (x[:40], y[:40]), eps=0.1, attack="pgd", steps=3, progress=False)
    assert any("no input gradient" in sign for sign in found.warnings), found.warnings
    plain = hpcfast.evaluate(steep, (x[:40], y[:40]), eps=0.1, attack="pgd", masked_gradients=False, progress=False)
    assert plain.warnings == []


class Steep(nn.Module):
    """Logits that do not move with the image."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(logits.argmax(1), 10).float() + 0 * logits


Change = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"attack": "cw"}, r"attack\.name: 'cw' is not one of: apgd"),
        ({"attack": "nfgsm"}, "attack: nfgsm leaves the ball; measure with apgd"),
        ({"attack": "pgd", "stepz": 3}, r"stepz: unknown key.*did you mean 'steps'"),
        ({"eps": 0}, "eps"),
        ({"images": 0}, "images: input should be greater than 0"),
        ({"classes": ["cat", "dog"]}, "classes: 2 names for a model with 10 logits"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], message: str) -> None:
    model, x, y = trained_digits()
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.evaluate(model, (x, y), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (255 * x, y), "pixels from 0 to 255"),
        (lambda x, y: (x, y + 9), "classes from 9 to 18; legal are 0 to 9"),
        (lambda x, y: (x[:, :, :4], y), "images of 4 x 8 pixels; give square ones"),
        (lambda x, y: [(x, y), (x[:, :, :4, :4], y)], "images of 2 shapes, such as"),
        (lambda x, y: [], "data: no images"),
    ],
)
def test_wrong_images_are_refused(change: Callable[..., Any], message: str) -> None:
    model, x, y = trained_digits()
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(8), model).eval()
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.evaluate(pooled, change(x, y))


def test_a_model_in_train_mode_is_refused() -> None:
    model, x, y = trained_digits()
    with pytest.raises(hpcfast.UserError, match=r"call model\.eval\(\)"):
        hpcfast.evaluate(nn.Sequential(model), (x, y))


def test_a_folder_without_train_and_val_is_read(tmp_path: Path, images: Path, world: World) -> None:
    data = hpcfast.loader(images / "val", size=10, channels=1, batch_size=5)
    assert (len(data), data.classes) == (3, ("class0", "class1", "class2"))
    assert [len(y) for _, y in data] == [5, 5, 2]
    assert torch.cat([y for _, y in data]).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    colour = write_images(tmp_path, {"val": 2}, 2, mode="RGB")
    assert next(iter(hpcfast.loader(colour / "val", size=6)))[0].shape == (4, 3, 6, 6)


@pytest.fixture
def some_classes(images: Path, tmp_path: Path) -> Path:
    """Two of the three classes, in a folder whose numbers are others than a model's of all three."""
    for name in ("class1", "class2"):
        (tmp_path / "some" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "some" / name).symlink_to(images / "val" / name)
    return tmp_path / "some"


def test_classes_are_matched_by_name(plain: RunConfig, some_classes: Path, quick: None, world: World) -> None:
    model = hpcfast.load(plain.folder)
    given: dict[str, Any] = {"norm": "L2", "eps": 0.5, "attack": "apgd", "steps": 4, "progress": False}
    data = hpcfast.loader(some_classes, size=10, channels=1)
    matched = hpcfast.loader(some_classes, size=10, channels=1, classes=model.classes)
    pairs = [*matched]
    assert [y.tolist() for _, y in pairs] == [[1] * 4 + [2] * 4]
    by_tensors = hpcfast.evaluate(model, pairs, **given)
    for source, names in ((data, None), (matched, None), (data, model.classes)):
        found = hpcfast.evaluate(model, source, classes=names, **given)
        assert found.outcomes == by_tensors.outcomes
        assert found.details["stages"] == by_tensors.details["stages"], "as many targets as the model has classes"
    anonymous = nn.Sequential(model).eval()
    with pytest.raises(hpcfast.UserError, match="2 classes for a model with 3 logits.*give classes="):
        hpcfast.evaluate(anonymous, data, **given)
    with pytest.raises(hpcfast.UserError, match="the model does not know 2 of its 2 classes"):
        hpcfast.evaluate(model, data, classes=["a", "b", "c"], **given)


def test_an_evaluation_begins_no_epoch(plain: RunConfig, images: Path, quick: None, world: World) -> None:
    model = hpcfast.load(plain.folder)
    one, other = (hpcfast.loader(images, 10, channels=1, batch_size=5, shuffle=True) for _ in range(2))
    hpcfast.evaluate(model, one, attack="standard", progress=False)
    assert torch.equal(next(iter(one))[0], next(iter(other))[0])


def test_epochs_are_shuffled_and_augmented_anew_and_the_same_again(images: Path, world: World) -> None:
    def epochs(seed: int) -> list[torch.Tensor]:
        given = {"split": "train", "augment": "pad_crop_flip", "shuffle": True}
        data = hpcfast.loader(images, 10, channels=1, batch_size=5, seed=seed, **given)
        assert len(data) == 4, "24 images; the last 4 are left out"
        return [torch.cat([x for x, _ in data]) for _ in range(2)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(*first)
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("nowhere", {}, "path: no folder nowhere"),
        ("synthetic:8x2", {"size": 0}, "size: input should be greater than 0"),
        ("synthetic:8x2", {"augment": "flip"}, "augment: input should be 'none'"),
    ],
)
def test_wrong_data_are_refused(path: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.loader(path, **({"size": 8} | given))
