"""The copy of a network that is measured."""

import pytest
import timm
import torch
from torch import Tensor, nn

from hpcfast.evaluation import freeze as module
from hpcfast.evaluation.freeze import frozen, full_precision
from hpcfast.models import ModelSettings
from tests.unit.nets import convolutional


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d) for each in model.modules())


def trained(name: str) -> nn.Module:
    """A network whose BatchNorm has seen something."""
    torch.manual_seed(0)
    model = ModelSettings(name=name, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2)).build(7)
    for _ in range(3):
        model(torch.rand(8, 3, 32, 32))
    return model


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet18"])
def test_batch_norm_is_folded_and_logits_stay(name: str) -> None:
    model, x = trained(name), torch.rand(5, 3, 32, 32)
    still = frozen(model, x)
    assert batch_norms(model) > 0
    assert batch_norms(still) == 0
    torch.testing.assert_close(still(x), model.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_networks_that_are_known_or_not_give_the_same_input_gradients(name: str) -> None:
    size = 224 if "vit" in name else 32
    model = timm.create_model(name, num_classes=5).eval()
    x = torch.rand(2, 3, size, size, requires_grad=True)
    still = frozen(model, x.detach())
    (expected,), (found,) = (torch.autograd.grad(each(x).square().sum(), x) for each in (model, still))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class Moody(nn.Module):
    """Does what depends on its numbers, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.net = convolutional()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.mean() > 0 else x.flatten(1)[:, :3]


def test_a_network_that_cannot_be_traced_is_copied_as_it_is() -> None:
    model, x = Moody(), torch.rand(4, 2, 3, 3)
    still = frozen(model, x)
    assert batch_norms(still) == 1
    assert torch.equal(still(x), model.eval()(x))


def test_a_fold_that_changes_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = convolutional()
    nn.init.zeros_(wrong[5].weight)
    monkeypatch.setattr(module.optimization, "fuse", lambda model: wrong.eval())
    model, x = convolutional(), torch.rand(4, 2, 3, 3)
    assert torch.equal(frozen(model, x)(x), model.eval()(x))


def test_what_trains_is_left_alone() -> None:
    model, x = convolutional().train(), torch.rand(4, 2, 3, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    still = frozen(model, x)
    still(x.requires_grad_()).sum().backward()
    assert model.training
    assert not still.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in still.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_tf32_is_off_in_the_block_and_back_after_it() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_precision():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
