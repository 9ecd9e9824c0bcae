"""What an evaluation found class by class: accuracies, and what images are taken for."""

from collections import Counter
from typing import Any

import numpy as np

from hpcfast.evaluation.interval import interval

MOST = 50
"""Pairs of classes that are kept: those that are confused most often under attack."""


def by_class(names: tuple[str, ...], labels: np.ndarray, clean: np.ndarray, attacked: np.ndarray) -> dict[str, Any]:
    """Count, of images of the classes ``labels`` (n,), what they are taken for as they are, and attacked; all int64.

    Returns:
        ``balanced_accuracy``: ``clean`` and ``robust``, means over the classes that have images. ``classes``: of each
        its ``name``, the number of ``images``, and of those that have any ``clean_accuracy``, ``robust_accuracy`` and
        ``ci95``, a Wilson interval for each. ``confusion``: pairs of a ``class`` and another that its images are
        ``taken_for``, how many ``clean`` and ``attacked``; the most frequent under attack first.
    """
    total = np.bincount(labels, minlength=len(names))
    right = {
        "clean_accuracy": np.bincount(labels[clean == labels], minlength=len(names)),
        "robust_accuracy": np.bincount(labels[(clean == labels) & (attacked == labels)], minlength=len(names)),
    }
    classes = []
    for label, name in enumerate(names):
        row: dict[str, Any] = {"name": name, "images": int(total[label])}
        if n := row["images"]:
            row |= {key: int(counts[label]) / n for key, counts in right.items()}
            row["ci95"] = {key: interval(int(counts[label]), n) for key, counts in right.items()}
        classes.append(row)
    balanced = {
        key.removesuffix("_accuracy"): float(np.mean([row[key] for row in classes if row["images"]])) for key in right
    }
    confusion = _confusion(names, labels, clean, attacked)
    return {"balanced_accuracy": balanced, "classes": classes, "confusion": confusion}


def _confusion(
    names: tuple[str, ...], labels: np.ndarray, clean: np.ndarray, attacked: np.ndarray
) -> list[dict[str, Any]]:
    counts = [Counter(zip(labels.tolist(), taken.tolist(), strict=True)) for taken in (clean, attacked)]
    pairs = {(label, taken) for each in counts for label, taken in each if label != taken}
    ordered = sorted(pairs, key=lambda pair: (-counts[1][pair], -counts[0][pair], pair))
    return [
        {
            "class": names[label],
            "taken_for": names[taken],
            "clean": counts[0][label, taken],
            "attacked": counts[1][label, taken],
        }
        for label, taken in ordered[:MOST]
    ]
