"""What a finished run leaves behind: weights, what they are, and a summary; and how to load them again."""

import json
import platform
from typing import Any

import timm
import torch
from torch import nn

import hpcfast
from hpcfast import checkpoint, models
from hpcfast.clock import Clock
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.errors import UserError
from hpcfast.rundir import RunDirectory


def summary(config: RunConfig, world: World, result: dict[str, Any], images: int, clock: Clock) -> dict[str, Any]:
    """The contents of ``summary.json``: what was trained, what it reached (fractions), how long it took (seconds).

    Args:
        result: of the final evaluation (:func:`hpcfast.evaluate.evaluate`).
        images: trained on in all, over all ranks and epochs.
    """
    return {
        "status": "finished",
        "dataset": config.data.path.name,
        "model": config.model.name,
        "method": config.attack.model_dump(),
        **config.threat.model_dump(),
        "world_size": world.size,
        "epochs": config.epochs,
        "seed": config.seed,
        **{key: result[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack")},
        "train_images_per_second": images / clock.trained,
        "train_seconds": clock.trained,
        "wall_seconds": clock.wall,
        "target": None,
        "time_to_robust_accuracy_seconds": None,
        "catastrophic_overfitting": None,
        "device": str(world.device),
        "versions": {
            "hpcfast": hpcfast.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
    }


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
