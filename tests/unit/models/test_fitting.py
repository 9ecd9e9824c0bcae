"""A network that doesn't suit the images is one message, before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpcfast.component import validate
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.models.fitting import check
from hpcfast.training import train

Tiny = Callable[..., RunConfig]


def settings(name: str, channels: int = 3, **options: Any) -> ModelSettings:
    values = {"name": name, "options": options, "mean": [0.5] * channels, "std": [0.25] * channels}
    return validate(ModelSettings, values)


FIT = [
    ("resnet18", {}, 32), ("vit_tiny_patch16_224", {}, 224), ("vit_tiny_patch16_224", {"img_size": 32}, 32),
    ("swin_tiny_patch4_window7_224", {}, 224), ("cifar_resnet8", {}, 28), ("convnext_atto", {}, 32),
]  # fmt: skip
MISFIT = [
    ("vit_tiny_patch16_224", {}, 32, "32"),
    ("swin_tiny_patch4_window7_224", {}, 64, "64"),
    ("vit_tiny_patch16_224", {"img_size": 64}, 32, "32"),
]
NO_SIZE = [("vgg11", {}, 8), ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 64}, 32), ("densenet121", {}, 8)]
REMAINDER = [("vit_tiny_patch16_224", {"img_size": 28}, 28), ("swin_tiny_patch4_window7_224", {"img_size": 30}, 30)]


@pytest.mark.parametrize(("name", "options", "size"), FIT)
def test_networks_that_fit_pass_and_draw_no_number(name: str, options: dict[str, Any], size: int) -> None:
    before = torch.get_rng_state()
    check(settings(name, **options), 10, 3, [size])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "options", "size", "said"), MISFIT)
def test_others_are_one_message_with_the_cure(name: str, options: dict[str, Any], size: int, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check(settings(name, **options), 10, 3, [size])
    assert str(caught.value).startswith(f"model.name: {name} with model.options=")
    assert f"3 x {said} x {said}" in str(caught.value)
    assert f"model.options.img_size={size}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "options", "size"), [*NO_SIZE, *REMAINDER])
def test_no_cure_is_named_that_is_none(name: str, options: dict[str, Any], size: int) -> None:
    with pytest.raises(UserError) as caught:
        check(settings(name, **options), 10, 3, [size])
    assert str(caught.value).endswith("Set data.size (and the sizes of phases) to what it takes")


@pytest.mark.parametrize(("name", "options", "size"), REMAINDER)
def test_pixels_that_no_patch_holds_are_said(name: str, options: dict[str, Any], size: int) -> None:
    with pytest.raises(UserError, match=rf"patches of \d+ pixels don't divide {size}, and the rest would not be seen"):
        check(settings(name, **options), 10, 3, [size])


def test_a_trial_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("timm.models._builder.load_pretrained", refused)
    check(settings("resnet18", pretrained=True), 10, 3, [32])


def test_one_image_of_one_pixel_is_too_little_for_batchnorm() -> None:
    with pytest.raises(UserError, match="more than 1 value per channel"):
        check(settings("resnet18"), 10, 3, [32], batch=1)
    check(settings("resnet18"), 10, 3, [64], batch=1)


class Counting(nn.Module):
    """Of the user's own: it looks at values, which the device "meta" has none of."""

    def __init__(self, num_classes: int, in_chans: int, logits: int | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(in_chans, logits or num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.sum().item() < 1e9
        return self.head(x.mean((2, 3)))


def test_code_of_the_users_own_is_tried_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfast.models._maker", lambda name: Counting)
    check(settings("resnet18"), 10, 3, [32])
    with pytest.raises(UserError, match=r"returns \(2, 7\), not logits of shape \(2, 10\)"):
        check(settings("resnet18", logits=7), 10, 3, [32])


def test_training_refuses_it_before_a_file_is_written(tiny: Tiny, world: World, tmp_path: Path) -> None:
    config = tiny("model={name: vit_tiny_patch16_224, options: {depth: 1, embed_dim: 12}, mean: [0.5], std: [0.5]}")
    with pytest.raises(UserError, match=r"does not take 2 images of 1 x 10 x 10"):
        train.train(config, world)
    assert not config.folder.exists()
