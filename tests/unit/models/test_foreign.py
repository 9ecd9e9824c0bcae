"""Weights of others: what every layout becomes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import ModelSettings, pretrained
from tests.unit.weights import GIVEN, MEAN, STD, Save, images, resnet, saving, shaken, small


def normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(1, -1, 1, 1)) / torch.tensor(STD).view(1, -1, 1, 1)


@torch.no_grad()
def assert_computes(model: nn.Module, net: nn.Module, size: int = 32) -> None:
    """Assert that ``model`` does to images what ``net`` does to normalised ones."""
    assert not model.training
    torch.testing.assert_close(model(images(size=size)), net.eval()(normalised(images(size=size))))


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    return saving(tmp_path)


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def columns(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def of_timm(**options: Any) -> nn.Module:
    return timm.create_model("resnet18", **options)


@pytest.mark.parametrize("make", [torchvision.models.resnet18, of_timm], ids=["torchvision", "timm"])
def test_a_resnet18_computes_what_it_did(make: Callable[..., nn.Module], saved: Save) -> None:
    torch.manual_seed(0)
    net = shaken(make(num_classes=7))
    model, notes = pretrained.load(saved(net.state_dict()), "resnet18", **GIVEN)
    assert_computes(model, net)
    assert notes.said == []
    assert (notes.mean, notes.std) == (MEAN, STD)


def test_a_safetensors_file_is_read_by_what_it_holds_not_by_its_name(tmp_path: Path) -> None:
    save_file(resnet().state_dict(), tmp_path / "weights.bin")
    assert_computes(pretrained.load(tmp_path / "weights.bin", "resnet18", **GIVEN)[0], resnet())


def test_a_transformer_with_options(saved: Save) -> None:
    options = {"img_size": 32, "patch_size": 8}
    net = timm.create_model("vit_tiny_patch16_224", num_classes=5, **options)
    model, _ = pretrained.load(saved(net.state_dict()), "vit_tiny_patch16_224", options=options, **GIVEN)
    assert_computes(model, net)


@pytest.mark.parametrize(
    ("nest", "prefix"),
    [
        ((), "module."),
        (("state_dict",), ""),
        (("model",), "module.model."),
        (("model_state_dict",), "model."),
        (("net",), "module."),
        (("net", "state_dict"), "net."),
    ],
)
def test_nests_and_prefixes(nest: tuple[str, ...], prefix: str, saved: Save) -> None:
    content: Any = prefixed(small().state_dict(), prefix)
    for key in reversed(nest):
        content = {"epoch": 3, key: content}
    model, notes = pretrained.load(saved(content), "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert any(f"'{'.'.join(nest)}'" in note for note in notes.said) == bool(nest)
    assert any(f"'{prefix}'" in note for note in notes.said) == bool(prefix)


def test_a_file_of_before_torch_1_6_without_batchnorms_counters(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in small().state_dict().items() if "num_batches" not in name}
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_computes(pretrained.load(tmp_path / "old.pth", "cifar_resnet8", **GIVEN)[0], small())


def test_a_robustness_checkpoint_brings_its_normalisation(saved: Save) -> None:
    moments = {"new_mean": columns(MEAN), "new_std": columns(STD)}
    state = {
        **prefixed(moments, "module.normalizer."),
        **prefixed(resnet().state_dict(), "module.model."),
        **prefixed(moments, "module.attacker.normalize."),
        **prefixed(resnet().state_dict(), "module.attacker.model."),
    }
    file = saved({"model": state, "optimizer": {"state": {}}, "epoch": 90, "schedule": None, "amp": "N/A"})
    model, notes = pretrained.load(file, "resnet18")
    assert_computes(model, resnet())
    assert "normalisation from the file: mean 0.4,0.5,0.6, std 0.2,0.25,0.3" in notes.said
    assert any("attacker" in note for note in notes.said)


@pytest.mark.parametrize("names", [("mu", "sigma"), ("normalize.mean", "normalize.std")])
@pytest.mark.parametrize("nested", [True, False])
def test_a_robustbench_checkpoint_brings_its_normalisation(names: tuple[str, str], nested: bool, saved: Save) -> None:
    moments = {names[0]: columns(MEAN)[None], names[1]: columns(STD)[None]}
    state = {**moments, **prefixed(small().state_dict(), "" if names[0] == "mu" else "model.")}
    model, _ = pretrained.load(saved({"state_dict": state} if nested else state), "cifar_resnet8")
    assert_computes(model, small())


class Basic(nn.Module):
    """The block of the CIFAR-10 ResNets of robustness and RobustBench, written down again."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class CifarNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        for stage, (channels, planes) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], 1):
            layer = nn.Sequential(Basic(channels, planes, 1 if stage == 1 else 2), Basic(planes, planes, 1))
            self.add_module(f"layer{stage}", layer)
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


def test_the_cifar10_resnet_of_others_is_cifar_resnet18(saved: Save) -> None:
    torch.manual_seed(0)
    net = shaken(CifarNet())
    model, notes = pretrained.load(saved(net.state_dict()), "cifar_resnet18", **GIVEN)
    assert_computes(model, net)
    assert "matched by kind, shape and order: conv1.weight is stem.0.weight" in notes.said[0]
    with pytest.raises(UserError, match="They fit --arch cifar_resnet18"):
        pretrained.load(saved(net.state_dict()), "cifar_resnet50", **GIVEN)


def test_what_is_given_comes_before_what_the_file_says(saved: Save) -> None:
    state = {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1), **small().state_dict()}
    model, notes = pretrained.load(saved(state), "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert any("not used" in note for note in notes.said)


@pytest.mark.parametrize("nest", [None, "hpcfast"])
def test_what_hpcfast_wrote_beside_the_file_says_the_rest(nest: str | None, tmp_path: Path) -> None:
    settings = ModelSettings(name="cifar_resnet8", options={"width": 4, "stem_stride": 2}, mean=MEAN, std=STD)
    net = shaken(settings.build(5)).get_submodule("net")
    torch.save(net.state_dict(), tmp_path / "robust.pt")
    about: dict[str, Any] = {"model": settings.model_dump()}
    (tmp_path / "robust.pt.json").write_text(json.dumps({nest: about} if nest else about))
    assert_computes(pretrained.load(tmp_path / "robust.pt")[0], net)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 10**5, '{"model": {"name": "nonsense"}}', '{"hpcfast": 1}'])
def test_a_foreign_file_beside_it_does_not_matter(text: str, saved: Save) -> None:
    path = saved(small().state_dict())
    Path(f"{path}.json").write_text(text)
    assert_computes(pretrained.load(path, "cifar_resnet8", **GIVEN)[0], small())


def test_a_runs_weights_need_nothing_else(plain: Any) -> None:
    from hpcfast.models import saved
    from hpcfast.runs.directory import RunDirectory

    run = RunDirectory(plain.folder)
    model, classes = saved.load(run, plain.model)
    again, notes = pretrained.load(run.weights)
    assert (notes.classes, notes.outputs) == (classes, len(classes))
    assert torch.equal(again(images(1, 10)), model(images(1, 10)))
