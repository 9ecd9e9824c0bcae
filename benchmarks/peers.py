"""What a user would run instead: the step of the reference way, and those of torchattacks, foolbox and robustness.

All as their users have them: float32, contiguous tensors, SGD. The packages attack with BatchNorm in eval mode.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import cast
from unittest.mock import MagicMock, patch

import foolbox
import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from hpcfast.config import RunConfig

with patch.dict(sys.modules, {name: MagicMock() for name in ("dill", "pandas", "cox") if name not in sys.modules}):
    # It imports these three for its loops' logs and files, not for its step; they are not installed.
    from robustness.attacker import AttackerModel

AttackOn = Callable[[Tensor, Tensor], Tensor]
"""Maps images and classes to adversarial images."""


class Peer:
    """A network with its optimizer, and a training step that is ``attack`` and then the usual."""

    def __init__(self, config: RunConfig, classes: int, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model = config.model.build(classes).to(device).to(memory_format=torch.contiguous_format)
        self.optimizer = config.optim.build(self.model)
        self.eps = config.threat.eps

    def step(self, x: Tensor, y: Tensor, attack: AttackOn | None = None) -> None:
        self.model.train()
        images = x if attack is None else attack(x, y)
        self.model.train()
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(images), y).backward()
        self.optimizer.step()

    def reference(self, x: Tensor, y: Tensor) -> Tensor:
        """The fast attack as published code has it: ``backward``, which computes gradients of the weights too."""
        delta = torch.randn_like(x)
        delta *= self.eps * torch.rand(len(x), 1, 1, 1, device=x.device) / _norm(delta)
        delta.requires_grad_()
        F.cross_entropy(self.model((x + delta).clamp(0, 1)), y).backward()
        gradient = cast(Tensor, delta.grad)
        moved = delta.detach() + 1.25 * self.eps * gradient / _norm(gradient).clamp_min(1e-12)
        return (x + moved * (self.eps / _norm(moved)).clamp_max(1)).clamp(0, 1)

    def torchattacks(self, steps: int) -> AttackOn:
        """``torchattacks.PGDL2``."""
        return torchattacks.PGDL2(self.model, eps=self.eps, alpha=self._alpha(steps), steps=steps)

    def foolbox(self, steps: int) -> AttackOn:
        """``foolbox.attacks.L2PGD``."""
        attack = foolbox.attacks.L2PGD(steps=steps, abs_stepsize=self._alpha(steps))

        def run(x: Tensor, y: Tensor) -> Tensor:
            self.model.eval()
            images: Tensor = attack(foolbox.PyTorchModel(self.model, bounds=(0, 1)), x, y, epsilons=self.eps)[1]
            return images

        return run

    def _alpha(self, steps: int) -> float:
        return (1.25 if steps == 1 else 2.5 / steps) * self.eps


class Robustness(Peer):
    """The step of the ``robustness`` package (Engstrom et al. 2019), with its defaults: PGD from the image itself."""

    def __init__(self, config: RunConfig, classes: int, device: torch.device) -> None:
        super().__init__(config, classes, device)
        mean, std = torch.tensor(config.model.mean, device=device), torch.tensor(config.model.std, device=device)
        self._whole = AttackerModel(_Bare(cast(nn.Module, self.model.net)), SimpleNamespace(mean=mean, std=std))

    def train(self, x: Tensor, y: Tensor, steps: int) -> None:
        """One step of its training loop."""
        self._whole.train()
        with _cuda():
            logits, _ = self._whole(
                x, target=y, make_adv=True, constraint="2", eps=self.eps, step_size=self._alpha(steps),
                iterations=steps, use_best=True,
            )  # fmt: skip
        self.optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        self.optimizer.step()


class _Bare(nn.Module):
    """A network that takes robustness' three options for visualising."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, **options: bool) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def _cuda() -> AbstractContextManager[object]:
    """It calls ``cuda()`` on every batch: without a GPU, leave the batch where it is."""
    return nullcontext() if torch.cuda.is_available() else patch.object(Tensor, "cuda", lambda self: self)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
