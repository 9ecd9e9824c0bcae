"""Engines: what carries tensors between ranks. A file an engine, which alone imports its library.

``horovod`` (Gloo, MPI or NCCL), ``torch`` (torch.distributed: Gloo, NCCL) and ``single`` (one process, no library).
All of them add up in float32 what travels in float32, and wait without keeping a core busy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from hpcfast.distributed.settings import AllreduceSettings


class Handle(Protocol):
    """A collective under way."""

    def result(self) -> Any:
        """Wait for its end; the engine's ``lost`` is raised where a rank has died."""


@dataclass(frozen=True)
class Distributed:
    """An optimizer whose gradients are combined over ranks."""

    optimizer: torch.optim.Optimizer
    wait: Callable[[], None]
    """After it, gradients are those of all ranks."""
    stepping: Callable[[], AbstractContextManager[object]] = nullcontext
    """The block in which the optimizer steps, after ``wait``."""

    def step(self) -> None:
        """Wait for the gradients of all ranks, and step."""
        self.wait()
        with self.stepping():
            self.optimizer.step()


class Engine(ABC):
    """This process among the ranks. Every collective has a name, the same on all ranks, in the same order.

    ``lost`` is what collectives raise once another rank has died.
    """

    name: ClassVar[str]
    lost: type[Exception]
    rank: int
    size: int
    local_rank: int
    local_size: int
    carrier: str
    """What carries CPU tensors: Gloo or MPI; empty where nothing does."""
    address: str = ""
    """Of this rank's on the network that Gloo uses, where it is known."""

    @abstractmethod
    def sum(self, tensor: Tensor, name: str) -> Handle:
        """Begin to add ``tensor`` up over all ranks; the result is another tensor."""

    @abstractmethod
    def average(self, tensors: Sequence[Tensor], name: str) -> Handle:
        """Begin to replace floating-point ``tensors`` by their means over ranks, in place."""

    @abstractmethod
    def broadcast(self, tensors: Sequence[Tensor], name: str) -> None:
        """Replace ``tensors`` by rank 0's, in place."""

    @abstractmethod
    def gather(self, data: Tensor, name: str) -> list[Tensor]:
        """Every rank's ``data``, uint8 of shape (n,) with an ``n`` of its own, by rank."""

    @abstractmethod
    def distribute(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, settings: AllreduceSettings, passes: int, summed: bool
    ) -> Distributed:
        """Have gradients combined over ranks while the backward pass runs.

        Args:
            passes: backward passes whose gradients are added up before they are sent.
            summed: every rank has divided its loss by their number, so that the sum of gradients is their mean.

        Raises:
            UserError: the engine has no such ``settings``.
        """

    @abstractmethod
    def mean(self, tensors: dict[str, Tensor], compression: str) -> dict[str, Tensor]:
        """The means of ``tensors`` over ranks, by name, sent like gradients."""

    def look(self) -> None:  # noqa: B027 - only elastic jobs' ranks change
        """Learn again who this rank is."""

    def commit(self) -> None:  # noqa: B027
        """In an elastic job begin anew if ranks want to join or must leave; a collective."""

    def start_timeline(self, file: str) -> None:  # noqa: B027 - Horovod's alone
        """Have Horovod write when each tensor was asked for and sent, until :meth:`stop_timeline`."""

    def stop_timeline(self) -> None:  # noqa: B027
        """End it."""

    def abort(self, code: int) -> None:  # noqa: B027
        """End the other ranks with ``code``, where the launcher would not."""

    @property
    @abstractmethod
    def about(self) -> str:
        """What it is, with versions and what it can carry, for ``hpcfast doctor``."""

    @property
    def reaches_gpus(self) -> bool:
        """Whether gradients stay on GPUs on their way."""
        return True

    @property
    def mpi(self) -> str | None:
        """The MPI that carries this job, if one does."""
        return None
