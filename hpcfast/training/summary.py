"""The contents of a run's ``summary.json``."""

import importlib.metadata
import platform
from typing import Any

import timm
import torch

import hpcfast
from hpcfast.distributed import about
from hpcfast.training.state import Run


def summarise(run: Run, result: dict[str, Any], confirmation: list[dict[str, Any]]) -> dict[str, Any]:
    """The contents of ``summary.json``: what was trained, what it reached (fractions), how long it took (seconds).

    Args:
        result: of the final evaluation (:func:`hpcfast.evaluation.evaluate`).
        confirmation: results of those that confirm the target; empty if it was not reached.
    """
    config, clock = run.config, run.clock
    return {
        "status": "finished",
        "dataset": config.data.path.name,
        "data": run.data.summary(),
        "model": config.model.name,
        "method": config.attack.model_dump(),
        **config.threat.model_dump(),
        "world_size": run.world.size,
        "epochs": run.course.at,
        "steps": run.course.step,
        "images": run.course.images,
        "global_batch": run.course.global_batch,
        "seed": config.seed,
        **_measured(result),
        "train_images_per_second": run.course.images / clock.trained,
        "train_seconds": clock.trained,
        "train_cpu_seconds": clock.trained_cpu,
        "data_wait": clock.seconds["data_wait"] / clock.trained,
        "seconds": clock.seconds,
        "clock_seconds": clock.stop(),
        "wall_seconds": clock.wall,
        **run.rank_stats.summary(),
        **_target(run, confirmation),
        "catastrophic_overfitting": {"collapses": run.guard.history, "attack": run.guard.attack.model_dump()},
        "precision": run.learner.network.precision,
        "device": str(run.world.device),
        "versions": {
            "hpcfast": hpcfast.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "horovod": about.version(),
            "dali": importlib.metadata.version("nvidia-dali-cuda130"),
        },
    }


def _measured(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack")}


def _target(run: Run, confirmation: list[dict[str, Any]]) -> dict[str, Any]:
    """The target, and the time to it: only if every attack of the confirmation leaves as much as it."""
    target = run.config.target
    confirmed = target is not None and all(each["robust_accuracy"] >= target for each in confirmation)
    return {
        "target": target,
        "target_margin": run.config.target_margin,
        "target_reached_seconds": run.target_reached,
        "time_to_robust_accuracy_seconds": run.target_reached if confirmed else None,
        "confirmation": [_measured(each) for each in confirmation],
    }
