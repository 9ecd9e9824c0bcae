"""Outcomes in numbers: accuracies with their intervals, the curve over radii, and a table of images."""

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcfast.config import Check, RunConfig
from hpcfast.data import skips
from hpcfast.data.split import Split
from hpcfast.evaluation.outcomes import NEVER, Outcomes

if TYPE_CHECKING:
    from hpcfast.evaluation import Round


def summarise(
    outcomes: Outcomes, ids: np.ndarray, rounds: "Sequence[Round]", config: RunConfig, check: Check, split: Split
) -> dict[str, Any]:
    """What was measured, as fractions of the images among ``ids`` that could be read.

    Returns:
        ``clean_accuracy``, ``robust_accuracy`` in the threat model's ball, ``n_eval``, ``ci95`` (a Wilson interval
        for each accuracy), ``attack`` (its settings and the threat model), ``balanced_accuracy`` (``clean`` and
        ``robust``, the mean over classes), ``curve`` (robust accuracy for each radius) and ``stages`` (for each
        round, how many images it tried and how many it broke) and ``bad_images`` (what is wrong with those that could
        not be read, by name).
    """
    bad = {i: outcomes.bad[i] for i in ids.tolist() if i in outcomes.bad}
    ids = outcomes.good(ids)
    labels, n = outcomes.labels[ids], len(ids)
    right, fooled = outcomes.clean[ids] == labels, outcomes.fooled[ids]
    curve = []
    for eps in sorted({each.ball.eps for each in rounds}):
        until = sum(each.ball.eps <= eps for each in rounds)
        robust = right & (fooled >= until)
        curve.append({"eps": eps, "robust_accuracy": robust.mean(), "ci95": interval(int(robust.sum()), n)})
        if eps == config.threat.eps:
            standing = robust
    counts = {"clean_accuracy": right, "robust_accuracy": standing}
    return {
        **{key: float(values.mean()) for key, values in counts.items()},
        "n_eval": n,
        "ci95": {key: interval(int(values.sum()), n) for key, values in counts.items()},
        "attack": {**check.attack.model_dump(), **config.threat.model_dump()},
        "balanced_accuracy": {"clean": _balanced(right, labels), "robust": _balanced(standing, labels)},
        "curve": [{key: float(value) if key != "ci95" else value for key, value in point.items()} for point in curve],
        "stages": [
            {
                "name": each.name,
                "eps": each.ball.eps,
                "tried": int((right & (fooled >= number)).sum()),
                "broken": int((fooled == number).sum()),
            }
            for number, each in enumerate(rounds)
        ],
        "bad_images": {skips.name(split, i): reason for i, reason in bad.items()},
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


def table(outcomes: Outcomes, ids: np.ndarray, rounds: "Sequence[Round]", split: Split) -> str:
    """Every image's fate, as CSV: its class, what it is taken for, what fooled the model and within which radius."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "file", "class", "clean", "attacked", "fooled_by", "eps"))
    for index in outcomes.good(ids):
        number = outcomes.fooled[index]
        by = ("", "") if number == NEVER else (rounds[number].name, rounds[number].ball.eps)
        names = (split.classes[each[index]] for each in (outcomes.labels, outcomes.clean, outcomes.predicted))
        writer.writerow((index, split.files[index], *names, *by))
    return text.getvalue()
