"""The configuration of what the benchmarks train, where its data are theirs to choose."""

from typing import Any

from hpcfast.component import validate
from hpcfast.config import RunConfig

_CHECK = {"attack": {"name": "standard"}}


def config(model: str, options: dict[str, Any], size: int, batch: int, **settings: Any) -> RunConfig:
    """A configuration; ``settings`` replace what the benchmarks don't measure."""
    values: dict[str, Any] = {
        "name": "bench",
        "threat": {"norm": "L2", "eps": 1.0},
        "data": {"path": "none", "size": size, "batch_size": batch},
        "model": {"name": model, "options": options, "mean": [0.5] * 3, "std": [0.25] * 3},
        "attack": {"name": "fgsm_rs"},
        "epochs": 1,
        "optim": {"lr": 0.01, "lr_batch": batch},
        "schedule": {"name": "cosine"},
        "evaluation": {"monitor": _CHECK, "final": _CHECK},
    }
    return validate(RunConfig, values | settings)
