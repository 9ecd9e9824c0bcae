"""Models: normalisation inside, timm's by name, weights that must fit."""

import pytest
import torch
from torch import nn

from hpcfast.component import Invalid, validate
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings, load_weights

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)


def settings(name: str = "cifar_resnet8", **changes: object) -> ModelSettings:
    return validate(ModelSettings, {"name": name, "mean": MEAN, "std": STD, **changes})


def tiny(classes: int = 4, width: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return settings(options={"width": width}).build(classes)


def test_the_first_layer_normalises_images_channel_by_channel() -> None:
    model = tiny()
    x = torch.rand(5, 3, 8, 8)
    expected = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    name, first = next(model.named_children())
    assert name == "normalise"
    torch.testing.assert_close(first(x), expected)
    torch.testing.assert_close(model.eval()(x), model.net(expected))


def test_the_mean_image_enters_the_network_as_zero() -> None:
    x = torch.tensor(MEAN).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    assert tiny().normalise(x).abs().max() == 0


def test_normalisation_moves_with_the_model_and_is_not_trained() -> None:
    model = tiny()
    assert {"normalise.mean", "normalise.std"} <= set(model.state_dict())
    assert not [name for name, _ in model.named_parameters() if name.startswith("normalise")]
    assert model.double()(torch.rand(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_resnet18", "cifar_resnet50"])
@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("size", [9, 32])
def test_cifar_resnets_give_a_logit_a_class_and_a_gradient_a_weight(name: str, stem_stride: int, size: int) -> None:
    model = settings(name, options={"width": 4, "stem_stride": stem_stride}).build(7)
    logits = model(torch.rand(3, 3, size, size))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    missing = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not missing


@pytest.mark.parametrize(
    ("name", "width", "convolutions", "features"),
    [("cifar_resnet8", 16, 7, 64), ("cifar_resnet18", 64, 17, 512), ("cifar_resnet50", 64, 49, 2048)],
)
def test_cifar_resnets_have_the_published_depth_and_width(
    name: str, width: int, convolutions: int, features: int
) -> None:
    net = settings(name).build(10).net
    main_path = [m for key, m in net.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in key]
    assert len(main_path) == convolutions
    assert (main_path[0].out_channels, main_path[0].kernel_size) == (width, (3, 3))
    assert (net.fc.in_features, net.fc.out_features) == (features, 10)
    assert not [m for m in net.modules() if isinstance(m, nn.MaxPool2d)]


def test_width_and_stem_stride_change_channels_and_resolution() -> None:
    x = torch.rand(1, 3, 16, 16)
    for width, stride in ((2, 1), (4, 2)):
        stem = settings(options={"width": width, "stem_stride": stride}).build(2).net.stem
        assert stem(x).shape == (1, width, 16 // stride, 16 // stride)


@pytest.mark.parametrize(("name", "blocks", "millions"), [
    ("cifar_resnet20", 9, 0.27), ("cifar_resnet32", 15, 0.46), ("cifar_resnet44", 21, 0.66),
    ("cifar_resnet56", 27, 0.85), ("cifar_resnet110", 54, 1.73),
])  # fmt: skip
def test_the_thin_resnets_have_the_published_size_and_shortcuts_without_weights(
    name: str, blocks: int, millions: float
) -> None:
    net = settings(name).build(10).net
    assert len(net.blocks) == blocks
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert not [key for key in net.state_dict() if "downsample" in key]


def test_a_shortcut_without_weights_keeps_every_second_pixel_between_new_channels_of_zeros() -> None:
    shortcut = settings("cifar_resnet20").build(10).net.blocks[3].downsample
    x = torch.rand(2, 16, 6, 6)
    out = shortcut(x)
    assert out.shape == (2, 32, 3, 3)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().max() == out[:, 24:].abs().max() == 0


@pytest.mark.parametrize("key", ["mean", "std"])
def test_weights_of_a_model_that_normalises_otherwise_are_refused(key: str) -> None:
    other = settings(options={"width": 2}, **{key: (0.1, 0.2, 0.3)}).build(4)
    with pytest.raises(
        UserError, match=rf"model\.{key} is \[0\.1, 0\.2, 0\.3\], configured is \[0\.\d, 0\.\d+, 0\.\d\]"
    ):
        load_weights(tiny(), other.state_dict(), "a file")


def test_weights_are_channels_last_and_stay_so_when_loaded() -> None:
    model = settings("cifar_resnet8").build(4)
    load_weights(model, {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, "there")
    kernels = [p for p in model.parameters() if p.dim() == 4]
    assert len(kernels) == 9
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_timms_models_take_the_channels_of_the_mean() -> None:
    model = validate(ModelSettings, {"name": "test_resnet", "mean": [0.5], "std": [0.2]}).build(5)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 5)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(Invalid, match=r"name: 'resnet5O' is not one of: .*did you mean 'resnet50'"):
        settings("resnet5O")


@pytest.mark.parametrize("options", [{"breadth": 3}, {"width": "wide"}, {"width": -1}])
def test_options_that_the_network_cannot_use_are_explained(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"model\.options: .*{next(iter(options))}.* does not suit cifar_resnet8"):
        settings(options=options).build(3)


def test_weights_are_loaded() -> None:
    source, target = tiny(), settings(options={"width": 2}).build(4)
    load_weights(target, source.state_dict(), "there")
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(source.eval()(x), target.eval()(x))


def test_weights_of_another_shape_are_refused_before_anything_is_loaded() -> None:
    model = tiny(classes=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"^there holds .*net\.fc\.bias is \(5,\), the configured model has \(4,\)"):
        load_weights(model, tiny(classes=5).state_dict(), "there")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_missing_and_surplus_weights_are_refused() -> None:
    weights = tiny().state_dict()
    fewer = {name: tensor for name, tensor in weights.items() if name != "net.fc.bias"}
    with pytest.raises(UserError, match=r"net\.fc\.bias is nothing, the configured model has \(4,\)"):
        load_weights(tiny(), fewer, "there")
    with pytest.raises(UserError, match=r"extra is \(1,\), the configured model has nothing"):
        load_weights(tiny(), {**weights, "extra": torch.zeros(1)}, "there")
