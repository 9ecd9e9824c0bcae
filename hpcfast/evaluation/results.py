"""Outcomes in numbers: accuracies with their intervals, the curve over radii, and a table of images."""

import csv
import io
import math
from typing import Any

import numpy as np

from hpcfast.config import Check, RunConfig
from hpcfast.data import skips
from hpcfast.evaluation.outcomes import NEVER, Outcomes


def summarise(outcomes: Outcomes, config: RunConfig, check: Check) -> dict[str, Any]:
    """What was measured, as fractions of the images that could be read.

    Returns:
        ``clean_accuracy``, ``robust_accuracy`` in the threat model's ball, ``n_eval``, ``ci95`` (a Wilson interval
        for each accuracy), ``attack`` (its settings and the threat model), ``balanced_accuracy`` (``clean`` and
        ``robust``, the mean over classes), ``curve`` (robust accuracy for each radius) and ``stages`` (for each
        round, how many images it tried and how many it broke) and ``bad_images`` (what is wrong with those that could
        not be read, by name).
    """
    ids, rounds = outcomes.good, outcomes.rounds
    n, labels = len(ids), outcomes.split.labels[ids]
    standing = {  # before the first round of a larger ball, or after the last one
        eps: outcomes.standing(sum(each.ball.eps <= eps for each in rounds))[ids]
        for eps in sorted({each.ball.eps for each in rounds})
    }
    right, robust = outcomes.right[ids], standing[config.threat.eps]
    counts = {"clean_accuracy": right, "robust_accuracy": robust}
    return {
        **{key: float(values.mean()) for key, values in counts.items()},
        "n_eval": n,
        "ci95": {key: interval(int(values.sum()), n) for key, values in counts.items()},
        "attack": {**check.attack.model_dump(), **config.threat.model_dump()},
        "balanced_accuracy": {"clean": _balanced(right, labels), "robust": _balanced(robust, labels)},
        "curve": [
            {"eps": eps, "robust_accuracy": float(held.mean()), "ci95": interval(int(held.sum()), n)}
            for eps, held in standing.items()
        ],
        "stages": [
            {
                "name": each.name,
                "eps": each.ball.eps,
                "tried": int(outcomes.standing(number)[ids].sum()),
                "broken": outcomes.broken(number),
            }
            for number, each in enumerate(rounds)
        ],
        "bad_images": {skips.name(outcomes.split, i): reason for i, reason in sorted(outcomes.bad.items())},
    }


def _balanced(good: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([good[labels == label].mean() for label in np.unique(labels)]))


def interval(successes: int, n: int) -> list[float]:
    """Wilson's 95 % confidence interval of a fraction: sound at 0 and 1 too, unlike the normal one.

    Three lines instead of scipy.stats, whose import costs every rank a second.
    """
    z = 1.959964
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    fraction = successes / n  # inside its own interval, whatever rounding does
    return [max(0.0, min(centre - half, fraction)), min(1.0, max(centre + half, fraction))]


def table(outcomes: Outcomes) -> str:
    """Every image's fate, as CSV: its class, what it is taken for, what fooled the model and within which radius."""
    text, split = io.StringIO(), outcomes.split
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "file", "class", "clean", "attacked", "fooled_by", "eps"))
    for i in outcomes.good:
        number = outcomes.fooled[i]
        by = ("", "") if number == NEVER else (outcomes.rounds[number].name, outcomes.rounds[number].ball.eps)
        names = (split.classes[each[i]] for each in (split.labels, outcomes.clean, outcomes.predicted))
        writer.writerow((i, split.files[i], *names, *by))
    return text.getvalue()
