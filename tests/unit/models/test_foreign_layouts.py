"""Weights of others: prefixes, several dicts in a file, other names in the same order, numbers that are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import pretrained
from tests.unit.weights import GIVEN, MEAN, STD, Save, images, saving, small

Layout = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    return saving(tmp_path)


def before(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def moments(mean: str, std: str) -> dict[str, Tensor]:
    return {mean: torch.tensor(MEAN).view(-1, 1, 1), std: torch.tensor(STD).view(-1, 1, 1)}


def other() -> nn.Module:
    """A network like ``small()`` with other weights."""
    torch.manual_seed(1)
    return timm.create_model("cifar_resnet8", num_classes=5, in_chans=3)


@torch.no_grad()
def assert_computes(model: nn.Module, net: nn.Module) -> None:
    x = images()
    expected = net.eval()((x - torch.tensor(MEAN).view(1, -1, 1, 1)) / torch.tensor(STD).view(1, -1, 1, 1))
    torch.testing.assert_close(model(x), expected)


PREFIXES: dict[str, Layout] = {
    "compiled": lambda w: before("_orig_mod.", w),
    "parallel, compiled": lambda w: before("module._orig_mod.", w),
    "compiled, parallel": lambda w: before("_orig_mod.module.", w),
    "averaged": lambda w: {"n_averaged": torch.tensor(5), **before("module.", w)},
    "sequential": lambda w: before("1.", w),
    "its own name": lambda w: before("encoder.backbone.", w),
    "lightning": lambda w: {
        "state_dict": {**before("model.", w), "criterion.weight": torch.ones(5)},
        "pytorch-lightning_version": "2.4",
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
        "loops": {},
    },
    "deepspeed": lambda w: {"module": w, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
}


@pytest.mark.parametrize("layout", PREFIXES.values(), ids=PREFIXES)
def test_what_stands_before_all_names_is_taken_away(layout: Layout, saved: Save) -> None:
    model, notes = pretrained.load(saved(layout(small().state_dict())), "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert len(notes.said) >= 1


def test_what_is_not_the_networks_is_named(saved: Save) -> None:
    notes = pretrained.load(saved(PREFIXES["lightning"](small().state_dict())), "cifar_resnet8", **GIVEN)[1]
    assert "1 tensors that are not the network's are left out: criterion.weight" in notes.said
    state = {**before("model.", small().state_dict()), "criterion.adjacency": torch.ones(5, 5).to_sparse()}
    model, notes = pretrained.load(saved(state), "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert "1 tensors that are not the network's are left out: criterion.adjacency" in notes.said


NORMALISED: dict[str, Layout] = {
    "sequential": lambda w: {**moments("0.mean", "0.std"), **before("1.", w)},
    "sequential, parallel": lambda w: {**moments("module.0.mean", "module.0.std"), **before("module.1.", w)},
    "lightning": lambda w: {"state_dict": {**before("model.", w), **moments("normalize.mean", "normalize.std")}},
    "inside": lambda w: before("module.", {**moments("mu", "sigma"), **w}),
    "two alike": lambda w: {
        **before("module.model.", w),
        **before("module.attacker.model.", w),
        **moments("module.normalizer.new_mean", "module.normalizer.new_std"),
        **moments("module.attacker.normalize.new_mean", "module.attacker.normalize.new_std"),
    },
}


@pytest.mark.parametrize("layout", NORMALISED.values(), ids=NORMALISED)
def test_a_layer_that_normalises_brings_mean_and_deviation(layout: Layout, saved: Save) -> None:
    model, notes = pretrained.load(saved(layout(small().state_dict())), "cifar_resnet8")
    assert_computes(model, small())
    assert "normalisation from the file: mean 0.4,0.5,0.6, std 0.2,0.25,0.3" in notes.said


def test_two_normalisations_in_one_file_are_refused(saved: Save) -> None:
    state = {**moments("0.mean", "0.std"), **before("1.", small().state_dict())}
    state |= {"2.mean": torch.zeros(3), "2.std": torch.ones(3)}
    with pytest.raises(UserError, match="normalises in several ways, in '0', '2'; say how with --mean and --std"):
        pretrained.load(saved(state), "cifar_resnet8")
    assert_computes(pretrained.load(saved(state), "cifar_resnet8", **GIVEN)[0], small())


def test_a_sequential_whose_normalisation_is_not_in_the_file_needs_it(saved: Save) -> None:
    with pytest.raises(UserError, match="does not say how images are normalised"):
        pretrained.load(saved(before("1.", small().state_dict())), "cifar_resnet8")


def test_names_of_another_network_are_shown_beside_the_wanted_ones(saved: Save) -> None:
    state = {f"encoder.{i}.kernel": torch.ones(3, i + 1) for i in range(4)}
    with pytest.raises(UserError) as caught:
        pretrained.load(saved(state), "cifar_resnet8", **GIVEN)
    for part in ("missing (stem.0.weight (16, 3, 3, 3), ", "4 too many (", "0.kernel (3, 1), ", "with --arch"):
        assert part in str(caught.value)


AVERAGES = ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "model_ema_state_dict"]


@pytest.mark.parametrize("nest", ["state_dict", "model"])
@pytest.mark.parametrize("average", AVERAGES)
def test_of_two_dicts_the_one_taken_and_the_other_are_named(nest: str, average: str, saved: Save) -> None:
    path = saved({"epoch": 3, average: small().state_dict(), nest: other().state_dict()})
    model, notes = pretrained.load(path, "cifar_resnet8", **GIVEN)
    assert_computes(model, other())
    assert notes.said == [
        f"weights found under '{nest}'",
        f"the file also has weights under '{average}'; --weights-key {average} takes those",
    ]
    model, notes = pretrained.load(path, "cifar_resnet8", key=average, **GIVEN)
    assert_computes(model, small())
    assert notes.said[0] == f"weights found under '{average}'"
    assert f"--weights-key {nest}" in notes.said[1]


@pytest.mark.parametrize("average", AVERAGES)
def test_a_file_with_averaged_weights_alone(average: str, saved: Save) -> None:
    path = saved({average: {"n_averaged": torch.tensor(3), **before("module.", small().state_dict())}})
    model, notes = pretrained.load(path, "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert notes.said[0] == f"weights found under '{average}'"


def test_a_dict_that_nobody_knows(saved: Save) -> None:
    content = {"generator": small().state_dict()}
    assert_computes(pretrained.load(saved(content), "cifar_resnet8", **GIVEN)[0], small())
    content["critic"] = other().state_dict()
    with pytest.raises(UserError, match=r"several networks: 'generator', 'critic'; choose one, .* generator"):
        pretrained.load(saved(content), "cifar_resnet8", **GIVEN)
    assert_computes(pretrained.load(saved(content), "cifar_resnet8", key="critic", **GIVEN)[0], other())


def test_two_networks_in_one_dict(saved: Save) -> None:
    path = saved({**before("student.", other().state_dict()), **before("teacher.", small().state_dict())})
    with pytest.raises(UserError, match="several networks: 'student', 'teacher'; choose one, .* --weights-key student"):
        pretrained.load(path, "cifar_resnet8", **GIVEN)
    for key in ("teacher", "teacher."):
        model, notes = pretrained.load(path, "cifar_resnet8", key=key, **GIVEN)
        assert_computes(model, small())
        assert any("student.stem" in note for note in notes.said)
    with pytest.raises(UserError, match=r"--weights-key pupil: .* \(there are: 'student', 'teacher'\)"):
        pretrained.load(path, "cifar_resnet8", key="pupil", **GIVEN)


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As another author might have called the layers; the blocks stay blocks."""
    words = {"stem.0": "_first", "stem.1": "_norm", "blocks": "_stages", "conv": "_cv", "bn": "_norm", "fc": "_last"}

    def new(name: str) -> str:
        for old, word in words.items():
            name = name.replace(old, word)
        return name

    return {new(name): tensor for name, tensor in weights.items()}


def test_other_names_in_the_same_order(saved: Save) -> None:
    model, notes = pretrained.load(saved(renamed(small().state_dict())), "cifar_resnet8", **GIVEN)
    assert_computes(model, small())
    assert "matched by kind, shape and order: _first.weight is stem.0.weight" in notes.said[0]


def swapped(weights: dict[str, Tensor], one: str, other: str) -> dict[str, Tensor]:
    names = list(weights)
    i, j = names.index(one), names.index(other)
    names[i], names[j] = names[j], names[i]
    return {name: weights[name] for name in names}


def test_another_order_shape_or_kind_is_refused(saved: Save, tmp_path: Path) -> None:
    weights = renamed(small().state_dict())
    save_file(weights, tmp_path / "sorted.safetensors")
    torch.save(swapped(weights, "_norm.weight", "_norm.bias"), tmp_path / "kind.pt")
    torch.save({**weights, "_last.weight": torch.ones(5, 63)}, tmp_path / "shape.pt")
    torch.save({**weights, "_more.weight": torch.ones(5)}, tmp_path / "more.pt")
    for name in ("sorted.safetensors", "kind.pt", "shape.pt", "more.pt"):
        with pytest.raises(UserError, match=r"does not hold weights of cifar_resnet8: .* missing \(stem"):
            pretrained.load(tmp_path / name, "cifar_resnet8", **GIVEN)


def test_blocks_that_begin_with_batchnorm_are_not_those_that_end_with_it(saved: Save) -> None:
    """Kinds, shapes and order of He et al.'s pre-activation ResNets are those of the ones without."""
    torch.manual_seed(0)
    net = timm.create_model("cifar_resnet20", num_classes=10, in_chans=3)
    names = [name for name in net.state_dict() if "num_batches" not in name]
    # stem.1 becomes the first block's first layer, and so on: each block's last layer is the next one's first.
    shifted: dict[str, Tensor] = {}
    block = 0
    for name in names:
        head = name.split(".")
        if head[0] == "stem":
            new = f"first.{head[-1]}" if head[1] == "0" else f"body.0.n1.{head[-1]}"
        elif head[0] == "fc":
            new = f"last.{head[-1]}"
        else:
            block = int(head[1])
            layer = {"conv1": "c1", "bn1": "n2", "conv2": "c2"}.get(head[2])
            new = f"body.{block}.{layer}.{head[-1]}" if layer else f"body.{block + 1}.n1.{head[-1]}"
        shifted[new.replace("body.9.n1", "final")] = net.state_dict()[name]
    with pytest.raises(UserError, match="does not hold weights of cifar_resnet20"):
        pretrained.load(saved(shifted), "cifar_resnet20", **GIVEN)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_none_is_named(value: float, saved: Save) -> None:
    weights = {name: tensor.clone() for name, tensor in small().state_dict().items()}
    weights["blocks.1.bn1.running_var"][7] = value
    with pytest.raises(UserError) as caught:
        pretrained.load(saved(weights), "cifar_resnet8", **GIVEN)
    for part in ("weights.pt: 1 of its ", "blocks.1.bn1.running_var (", " of 32)", "finite"):
        assert part in str(caught.value)


def test_numbers_that_float32_cannot_hold_are_refused(saved: Save) -> None:
    weights = {k: v.double() if v.is_floating_point() else v for k, v in small().state_dict().items()}
    assert_computes(pretrained.load(saved(weights), "cifar_resnet8", **GIVEN)[0], small())
    weights["fc.bias"] = weights["fc.bias"] * 1e300
    with pytest.raises(UserError, match=r"first fc\.bias \(0 NaN, 5 infinite, of 5\)"):
        pretrained.load(saved(weights), "cifar_resnet8", **GIVEN)


def test_half_precision_is_read_and_integers_are_not(saved: Save) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in small().state_dict().items()}
    model = pretrained.load(saved(half), "cifar_resnet8", **GIVEN)[0]
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    quantised = {**small().state_dict(), "fc.weight": torch.ones(5, 64, dtype=torch.int8)}
    with pytest.raises(UserError, match=r"fc\.weight holds torch\.int8, not plain floating-point numbers"):
        pretrained.load(saved(quantised), "cifar_resnet8", **GIVEN)
