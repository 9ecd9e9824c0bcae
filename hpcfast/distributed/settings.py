"""How gradients travel between ranks: settings only, so that a configuration can be read without Horovod."""

from typing import Any, Literal

from pydantic import model_validator

from hpcfast.component import Invalid, Settings

EngineName = Literal["auto", "horovod", "torch", "single"]
"""What carries tensors between ranks (:mod:`hpcfast.distributed.engines`)."""

GONE = {
    "fusion_megabytes": "HOROVOD_FUSION_THRESHOLD, in bytes",
    "cycle_milliseconds": "HOROVOD_CYCLE_TIME",
    "hierarchical": "HOROVOD_HIERARCHICAL_ALLREDUCE",
}
"""Settings of before, and the variables of Horovod that say the same."""


class AllreduceSettings(Settings):
    """Horovod's allreduce; what else it can be told, its own variables tell it (``HOROVOD_FUSION_THRESHOLD``, …).

    ``op``: "average", or "adasum" (Maleki et al. 2020), which needs MPI and no rule for the learning rate.
    ``compression``: "fp16" sends gradients in half precision.
    """

    op: Literal["average", "adasum"] = "average"
    compression: Literal["none", "fp16"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _refuse_gone(cls, values: Any) -> Any:
        if isinstance(values, dict) and (old := [key for key in GONE if key in values]):
            raise Invalid([f"{key}: is no setting any more; set Horovod's own variable {GONE[key]}" for key in old])
        return values
