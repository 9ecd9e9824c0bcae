"""What training changes - weights, their average, the optimizer, the loss scale - and one step of it.

The step is Algorithm 1 of Wong, Rice and Kolter, "Fast is better than free" (ICLR 2020): attack, backward, update.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hpcfast import models
from hpcfast.attacks import Attack
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed import comm
from hpcfast.runs.clock import Clock
from hpcfast.training import precision
from hpcfast.training.noise_scale import NoiseScaleMeter


class Learner:
    """A network in training; equal on all ranks after every step."""

    def __init__(
        self, config: RunConfig, classes: int, world: comm.World, clock: Clock | None = None,
        labels: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """``labels``: of all training images, int64; only ``class_weights: balanced`` looks at them."""
        self.config = config
        self._weights = None if labels is None else _class_weights(labels, classes).to(world.device)
        self.clock = clock or Clock()
        torch.manual_seed(config.seed)
        self.model = config.model.build(classes).to(world.device)
        comm.broadcast_parameters(self.model)
        dtype = precision.choose(config.precision, world.device)
        self.network = precision.Network(self.model, dtype, world.device, config.compile)
        self.scaler = precision.Scaler(dtype, world.device)
        # Its decay grows from 0 with the number of steps, so that short runs don't average in their first weights.
        self.average = ModelEmaV3(self.model, decay=config.ema, use_warmup=True) if config.ema else None
        # Dividing the loss by the ranks saves dividing all gradients; in half precision small ones would vanish.
        exact = config.allreduce.op == "average" and config.allreduce.compression == "none" and not self.scaler.enabled
        self._sharers = world.size if exact else 1
        self._distributed = comm.distribute(
            config.optim.build(self.model), self.model, config.allreduce, config.accumulate, exact, self._waiting
        )
        self.optimizer = self._distributed.optimizer
        self.network.register_forward_pre_hook(self._turn)
        self.noise = NoiseScaleMeter(self.model, world.device)
        self._noisy = world.size * config.accumulate > 1 and config.allreduce.op == "average"
        self.updates = 0
        self._generator = torch.Generator(world.device)

    @property
    def result(self) -> nn.Module:
        """The network to evaluate and export: the average of the weights where one is kept."""
        return self.average.module if self.average else self.model

    def step(self, batches: Sequence[Batch], attack: Attack, lr: float, seed: int) -> Tensor:
        """Train on ``batches``, whose gradients are added up.

        Args:
            seed: of every random number drawn.

        Returns:
            The mean loss on this rank, a scalar still on the device.
        """
        self._seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        ball, total = self.config.threat.ball, torch.zeros((), device=self._generator.device)
        good = [buffer.clone() for buffer in self.model.buffers()] if self.scaler.enabled else []
        for number, (x, y, _) in enumerate(batches, 1):
            for loss in self._attacked(attack.losses(self.network, x, y, ball, self._generator, self._criterion)):
                if number == 1:
                    self.optimizer.zero_grad()
                    if self._noisy and self.updates % max(1, self.config.log_every // 10) == 0:
                        self.noise.start()  # ten times between two entries of the log
                last = number == len(batches)
                averaged = comm.average_buffers(self.model) if last else None
                self.scaler.backward(loss / (len(batches) * self._sharers))
                self.noise.stop()
                if averaged:
                    self._update(averaged, good)
                total += loss.detach() / len(batches) / attack.updates
        return total

    def _seed(self, seed: int) -> None:
        # Not torch.manual_seed: for each device that is not there it would keep the call, and a stack trace, for ever.
        torch.default_generator.manual_seed(seed)
        if self._generator.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        self._generator.manual_seed(seed)

    def _update(self, averaged: Any, good: list[Tensor]) -> None:
        stepped = self.scaler.step(self._distributed)
        with self.clock.part("communication"):
            averaged()
        if good:  # float16 may have overflowed on the way forward: then BatchNorm's statistics are lost
            buffers = list(self.model.buffers())
            sound = torch.stack([buffer.isfinite().all() for buffer in buffers]).all()
            for buffer, kept in zip(buffers, good, strict=True):
                buffer.copy_(torch.where(sound, buffer, kept))
        self.updates += stepped
        if self.average and stepped:
            self.average.update(self.model, self.updates)

    def _attacked(self, losses: Iterator[Tensor]) -> Iterator[Tensor]:
        """``losses``; what precedes the forward pass of each counts as attack.

        The attack and the forward pass that it precedes see the same weights, and share their casts.
        """
        before = self.clock.switch("attack")
        while True:
            with self.network.casting_once():
                loss = next(losses, None)
            if loss is None:
                break
            self.clock.switch("update")
            yield loss
            self.clock.switch("attack")
        self.clock.switch(before)

    def _turn(self, network: nn.Module, images: tuple[Tensor, ...]) -> None:
        """The first forward pass that asks for gradients of the weights alone ends the attack."""
        if torch.is_grad_enabled() and not images[0].requires_grad:
            self.clock.switch("update")

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self.clock.part("communication"):
            yield
        self.noise.compare(self.config.accumulate * self._sharers, lambda: self.scaler.scale)

    def _criterion(self, logits: Tensor, y: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if self._weights is None:
            return F.cross_entropy(logits, y, label_smoothing=smoothing)
        # Over the number of images, not the sum of their weights: else a rank's images would count by its others.
        return (F.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none") * self._weights[y]).mean()

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return models.not_finite(self.model.state_dict()) is None

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any], origin: str) -> None:
        """Take up ``state``; a UserError that names ``origin`` where it is another model's."""
        models.load_weights(self.model, state["model"], origin)
        if self.average:
            models.load_weights(self.average.module, state["average"], origin)
        self.optimizer.load_state_dict(state["optimizer"])
        _lay_out(self.optimizer)
        self.scaler.load_state_dict(state["scaler"])
        self.updates = state["updates"]


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give what ``optimizer`` keeps of each weight the layout of that weight, in place.

    A checkpoint's may be another if another version wrote it. Fused optimizers pair a weight's
    numbers with its state's in the order of memory, and would train on without a word.
    """
    for weight, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """Of each class, with mean 1 over the images; shape (classes,), float32."""
    counts = np.bincount(labels, minlength=classes)
    return torch.from_numpy(len(labels) / (classes * np.maximum(counts, 1))).float()
