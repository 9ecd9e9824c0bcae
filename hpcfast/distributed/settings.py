"""How gradients travel between ranks: settings only, so that a configuration can be read without Horovod."""

from typing import Literal

from hpcfast.component import Settings


class AllreduceSettings(Settings):
    """Horovod's allreduce; what else it can be told, its own variables tell it (``HOROVOD_FUSION_THRESHOLD``, …).

    ``op``: "average", or "adasum" (Maleki et al. 2020), which needs MPI and no rule for the learning rate.
    ``compression``: "fp16" sends gradients in half precision.
    """

    op: Literal["average", "adasum"] = "average"
    compression: Literal["none", "fp16"] = "none"
