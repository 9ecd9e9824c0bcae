"""One process: every collective is the identity."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hpcfast.distributed.engines import Distributed, Engine
from hpcfast.distributed.engines.choice import missing_horovod
from hpcfast.distributed.settings import AllreduceSettings


class Done(NamedTuple):
    """A collective that has ended."""

    value: Any

    def result(self) -> Any:
        return self.value


class Single(Engine):
    """No other rank, no socket."""

    name, carrier, lost = "single", "", ConnectionError
    rank = local_rank = 0
    size = local_size = 1

    def sum(self, tensor: Tensor, name: str) -> Done:
        return Done(tensor.clone())

    def average(self, tensors: Sequence[Tensor], name: str) -> Done:
        return Done(tensors)

    def broadcast(self, tensors: Sequence[Tensor], name: str) -> None:
        pass

    def gather(self, data: Tensor, name: str) -> list[Tensor]:
        return [data]

    def distribute(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, settings: AllreduceSettings, passes: int, summed: bool
    ) -> Distributed:
        return Distributed(optimizer, lambda: None)

    @property
    def about(self) -> str:
        return f"one process; {missing_horovod() or 'Horovod is installed'}"

    def mean(self, tensors: dict[str, Tensor], compression: str) -> dict[str, Tensor]:
        return tensors
