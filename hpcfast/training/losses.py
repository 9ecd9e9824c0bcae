"""The losses of steps, looked at one step later: a step waits for nothing that its device has yet to compute."""

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Later:
    """A number on its way from the device."""

    def __init__(self, value: Tensor) -> None:
        """``value``: a scalar on any device."""
        self._value, self._arrived = value.detach(), None
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def item(self) -> float:
        """The number; waits for the device until it is there, but for nothing that was asked of it afterwards."""
        if self._arrived:
            self._arrived.synchronize()
        return float(self._value.item())


class Losses:
    """This rank's, until they have been looked at; keeps the first step whose loss was a fault."""

    def __init__(self, is_fault: Callable[[float], bool]) -> None:
        self._is_fault = is_fault
        self._open: deque[tuple[Later, dict[str, Any]]] = deque()
        self.fault: dict[str, Any] | None = None
        """What was noted of the first step whose loss was a fault, and its ``loss``."""

    def note(self, loss: Tensor, **step: Any) -> None:
        """Take in a step's ``loss``, a scalar on the device, and what to know of the step."""
        self._open.append((Later(loss), step))

    def look(self, but: int = 0) -> bool:
        """Look at all ``but`` so many of the last; whether any so far was a fault."""
        while len(self._open) > but:
            loss, step = self._open.popleft()
            if self.fault is None and self._is_fault(value := loss.item()):
                self.fault = {**step, "loss": str(value)}  # text: JSON has no NaN
        return self.fault is not None
