"""Optimizers: any of timm's (LARS and LAMB among them), and how the learning rate follows the batch."""

import math
from typing import Annotated, Literal

import timm.optim
import torch
from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from hpcfast.component import Settings, choices

NAMES = timm.optim.list_optimizers(exclude_filters=["bnb*", "fused*"])
"""Not those of bitsandbytes and Apex, which are not installed."""


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(choices(name, NAMES))
    return name


class OptimSettings(Settings):
    """Optimizer and learning rate."""

    name: Annotated[str, AfterValidator(_known)] = "sgd"
    """Any timm optimizer, LARS and LAMB among them."""
    lr: PositiveFloat
    """Learning rate for a global batch of ``lr_batch`` images; the schedule multiplies it."""
    lr_batch: PositiveInt
    """Images of a step over all ranks that ``lr`` is meant for."""
    lr_rule: Literal["linear", "sqrt", "none"] = "linear"
    """How ``lr`` follows another global batch: in proportion (Goyal et al. 2017, for SGD and LARS), with its square
    root (for Adam and LAMB), or not at all."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD and others that have one."""
    weight_decay: NonNegativeFloat = 5e-4
    """Not applied to biases and BatchNorm's parameters."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return an optimizer over the parameters of ``model``; its learning rate is set at every step.

        torch's own (SGD, Adam, AdamW, Adagrad) read and write each weight once, in one kernel.
        """
        optimizer = timm.optim.create_optimizer_v2(
            model, self.name, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        for group in optimizer.param_groups if "fused" in optimizer.defaults else ():
            group["fused"] = True
        return optimizer

    def scaled_lr(self, global_batch: int, lr: float | None = None) -> float:
        """Learning rate for ``global_batch`` images a step over all ranks, from ``lr`` or the settings' own."""
        ratio = global_batch / self.lr_batch
        factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.lr_rule]
        return (self.lr if lr is None else lr) * factor
