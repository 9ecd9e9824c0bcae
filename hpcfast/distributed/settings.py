"""How gradients travel between ranks: settings only, so that a configuration can be read without Horovod."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from hpcfast.component import Settings


class AllreduceSettings(Settings):
    """Horovod's allreduce. What is null is left to Horovod, or to its environment variables.

    ``op``: "average", or "adasum" (Maleki et al. 2020), which needs MPI and no rule for the learning rate.
    ``compression``: "fp16" sends gradients in half precision. ``fusion_megabytes``: small tensors are sent
    together up to this size. ``cycle_milliseconds``: how often Horovod looks for ready tensors while there are any;
    null: every 20 on CPUs.
    ``hierarchical``: first within a node (NCCL), then between nodes (MPI).
    """

    op: Literal["average", "adasum"] = "average"
    compression: Literal["none", "fp16"] = "none"
    fusion_megabytes: NonNegativeFloat | None = None
    cycle_milliseconds: PositiveFloat | None = None
    hierarchical: bool | None = None

    def environment(self) -> dict[str, str]:
        """The variables that Horovod reads when it starts."""
        values = {
            "HOROVOD_FUSION_THRESHOLD": None if self.fusion_megabytes is None else int(self.fusion_megabytes * 2**20),
            "HOROVOD_CYCLE_TIME": self.cycle_milliseconds,
            "HOROVOD_HIERARCHICAL_ALLREDUCE": None if self.hierarchical is None else int(self.hierarchical),
        }
        return {name: str(value) for name, value in values.items() if value is not None}
