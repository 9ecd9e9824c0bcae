"""Rows of a study as ``hpcfast scaling collect`` would return them; every number is made up."""

import itertools
import random
from dataclasses import replace
from typing import Any

from hpcfast.scaling.collect import Row

SHARES = {"start": 2.0, "attack": 40.0, "update": 45.0, "communication": 4.0, "data_wait": 1.0, "evaluation": 8.0}

NAMES = {"data": "digits", "method": "fast", "scaling": "strong"}


def row(seed: int = 0, nodes: int = 1, ttra: float | None = 100.0, **changed: Any) -> Row:
    """A run that converged after four epochs; with ``ttra=None`` one that did not."""
    data, method, scaling = (
        changed.pop(key, word) for key, word in (("data", "digits"), ("method", "fast"), ("scaling", "strong"))
    )
    whole = ttra or 150.0
    known = Row(
        job=f"{data}-{method}-{scaling}-{nodes}-seed{seed}", data=data, method=method, scaling=scaling, nodes=nodes,
        ranks=nodes, seed=seed, status="converged" if ttra else "not converged", target=0.5, ttra=ttra,
        global_batch=64 * (nodes if scaling == "weak" else 1), epochs=4.0, steps=400, images=25_600,
        train_seconds=0.9 * whole, images_per_second=25_600 / whole, clean_accuracy=0.9, robust_accuracy=0.52,
        confirmed={"pgd 50 x 10": 0.51, "apgd": 0.505}, hardware="a CPU, 1 thread a rank", versions="hpcfast 0.1.0",
        seconds={part: share * whole / 100 for part, share in SHARES.items()}, noise_scale=300.0,
    )  # fmt: skip
    return replace(known, **{"note": "" if ttra else "the target was not reached"} | changed)


def cell(*times: float | None, **changed: Any) -> list[Row]:
    """A row for each time, with seeds from 0 on."""
    return [row(seed, ttra=ttra, **changed) for seed, ttra in enumerate(times)]


def study_rows(data: tuple[str, ...] = ("digits",), seeds: int = 5) -> list[Row]:
    """Two methods, of which ``fast`` takes a third of the time, on 1, 2 and 4 nodes with both scalings."""
    random.seed(0)
    found = []
    for name, (method, whole), scaling, nodes, seed in itertools.product(
        data, (("fast", 100.0), ("pgd7", 300.0)), ("strong", "weak"), (1, 2, 4), range(seeds)
    ):
        near = random.uniform(0.95, 1.05)
        seconds = SHARES | {"communication": SHARES["communication"] * nodes}
        found.append(
            row(
                seed, nodes, whole / nodes**0.9 * near, data=name, method=method, scaling=scaling, seconds=seconds,
                epochs=random.choice([3.0, 4.0, 5.0]), images_per_second=6000 / whole * nodes**0.95 / near,
            )
        )  # fmt: skip
    return found
