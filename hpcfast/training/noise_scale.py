"""The gradient noise scale: the batch size above which larger batches stop paying (McCandlish et al. 2018).

"An Empirical Model of Large-Batch Training", appendix A.1: from the squared length of the gradient at two batch
sizes follow, without bias, that of the true gradient and the variance of one image's. The noise scale is their
ratio - of averages, since an average of ratios would be biased. Here the small batch is what one rank adds up in one
backward pass, and the large one is the step's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class NoiseScaleMeter:
    """Measures squared lengths of this rank's gradients, and of the mean gradients of steps."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._measuring = False
        self._local = torch.zeros((), device=device)
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)

    def start(self) -> None:
        """Measure the backward pass that comes: each gradient as soon as it is there, before Horovod gets it."""
        self._local.zero_()
        self._measuring = True
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._add) for parameter in self._parameters]

    def _add(self, parameter: Tensor) -> None:
        self._local += torch.linalg.vector_norm(parameter.grad) ** 2

    def stop(self) -> None:
        """The backward pass is over."""
        while self._hooks:
            self._hooks.pop().remove()

    def compare(self, parts: int, scale: Callable[[], float]) -> None:
        """Measure the mean gradients, if the backward pass was measured; what overflowed counts for nothing.

        The loss of this rank's backward pass was divided by ``parts`` and multiplied by ``scale()``.
        """
        if not self._measuring:
            return
        self._measuring = False
        lengths = [torch.linalg.vector_norm(p.grad) for p in self._parameters if p.grad is not None]
        squares = torch.stack((self._local * parts**2, torch.stack(lengths).square().sum())) / scale() ** 2
        found = torch.cat((squares, torch.ones_like(squares[:1]))).double()
        self._sums += torch.where(found.isfinite().all(), found, torch.zeros_like(found))

    def take(self) -> tuple[float, float, int]:
        """Sums of both squared lengths since the last call, and how many there are."""
        local, mean, n = self._sums.tolist()
        self._sums.zero_()
        return local, mean, int(n)


@dataclass
class NoiseScale:
    """Sums over measurements."""

    gradient: float = 0.0
    """Squared length of the true gradient."""
    variance: float = 0.0
    """Trace of the covariance of one image's gradient."""
    n: int = 0

    def add(self, local: float, mean: float, n: int, small: int, large: int) -> None:
        """Take in ``n`` measurements: squared lengths of gradients, summed.

        ``local`` is of ``small`` images, the mean over ranks; ``mean`` is of ``large``.
        """
        self.gradient += (large * mean - small * local) / (large - small)
        self.variance += (local - mean) / (1 / small - 1 / large)
        self.n += n

    @property
    def images(self) -> float | None:
        """The noise scale; None where nothing was measured, or too little to tell."""
        return self.variance / self.gradient if self.gradient > 0 and self.variance > 0 else None
