"""What a finished run leaves behind: weights, what they are, and a summary; and how to load them again."""

import json
import platform
from typing import Any

import timm
import torch
from torch import nn

import hpcfast
from hpcfast import checkpoint, models
from hpcfast.config import RunConfig
from hpcfast.errors import UserError
from hpcfast.run import Run
from hpcfast.rundir import RunDirectory


def summary(run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """The contents of ``summary.json``: what was trained, what it reached (fractions), how long it took (seconds).

    Args:
        result: of the final evaluation (:func:`hpcfast.evaluate.evaluate`).
    """
    config, clock = run.config, run.clock
    return {
        "status": "finished",
        "dataset": config.data.path.name,
        "model": config.model.name,
        "method": config.attack.model_dump(),
        **config.threat.model_dump(),
        "world_size": run.world.size,
        "epochs": run.plan.at(run.position),
        "seed": config.seed,
        **{key: result[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack")},
        "train_images_per_second": run.images / clock.trained,
        "train_seconds": clock.trained,
        "train_cpu_seconds": clock.trained_cpu,
        "data_wait": clock.waited / clock.trained,
        "wall_seconds": clock.wall,
        **_target(run, result["robust_accuracy"]),
        "catastrophic_overfitting": {"collapses": run.guard.history, "attack": run.guard.attack.model_dump()},
        "precision": run.learner.network.precision,
        "device": str(run.world.device),
        "versions": {
            "hpcfast": hpcfast.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
    }


def _target(run: Run, robust_accuracy: float) -> dict[str, Any]:
    """The target, and the time to it: only if the final evaluation confirms what the monitor saw."""
    target = run.config.target
    confirmed = target is not None and robust_accuracy >= target
    return {"target": target, "time_to_robust_accuracy_seconds": run.target_reached if confirmed else None}


def write(
    run: RunDirectory, config: RunConfig, model: nn.Module, classes: tuple[str, ...], reached: dict[str, Any]
) -> None:
    """Write the weights, what they are, and last the summary, whose presence says that the run is complete."""
    about = {
        "model": config.model.model_dump(),
        "classes": classes,
        "input": {"channels": config.data.channels, "size": config.data.size, "range": [0, 1]},
        "threat": config.threat.model_dump(),
    }
    checkpoint.save_weights(run.weights, model.state_dict())
    checkpoint.save_text(run.model, json.dumps(about, indent=1) + "\n")
    checkpoint.save_text(run.summary, json.dumps(reached, indent=1) + "\n")


def load(run: RunDirectory, config: RunConfig) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a finished run's model, in eval mode on the CPU, and its class names.

    Raises:
        UserError: the run is unfinished, or its weights are damaged or another model's.
    """
    weights = checkpoint.load_weights(run.weights)
    try:
        classes = tuple(json.loads(run.model.read_text())["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run.model} is missing or damaged ({error!r}); train the run again") from None
    model = config.model.build(len(classes)).eval()
    models.load_weights(model, weights, str(run.weights))
    return model, classes
