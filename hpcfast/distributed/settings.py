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
    """How gradients are averaged over ranks. Horovod's own variables (``HOROVOD_FUSION_THRESHOLD``, …) set the rest."""

    op: Literal["average", "adasum"] = "average"
    """``adasum`` (Maleki et al. 2020) needs Horovod with MPI, and ``optim.lr_rule: none``."""
    compression: Literal["none", "fp16"] = "none"
    """``fp16`` sends gradients in half precision."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_gone(cls, values: Any) -> Any:
        if isinstance(values, dict) and (old := [key for key in GONE if key in values]):
            raise Invalid([f"{key}: is no setting any more; set Horovod's own variable {GONE[key]}" for key in old])
        return values
