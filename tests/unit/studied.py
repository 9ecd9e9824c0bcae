"""Rows of studies that never were, by another model of the machine than the one that is fitted to them."""

from collections.abc import Sequence

import numpy as np

from hpcfast.scaling.collect import Row

IMAGES = 10_000


def step(ranks: int, batch: float) -> tuple[float, float]:
    """Seconds: compute with a start-up cost; a ring, in part hidden behind it, and the slowest of the ranks."""
    compute = 2e-3 + 4e-4 * batch
    ring = 2 * (ranks - 1) * (20e-6 + 40e6 / ranks / 5e9)
    return compute, compute * 0.01 * np.sqrt(2 * np.log(ranks)) + max(0.0, ring - 0.3 * compute)


def epochs(batch: int) -> float:
    """To the target: ten, and twice as many at a batch of 4,000."""
    return 10 * (1 + batch / 4000)


def rows(
    nodes: Sequence[int] = (1, 2, 4, 8, 16),
    scaling: str = "strong",
    seeds: int = 5,
    noise: float = 0.02,
    **changed: object,
) -> list[Row]:
    """A study with two ranks a node; a global batch of 1,024 images, or 64 a rank."""
    random = np.random.default_rng(1)
    made = []
    for n in nodes:
        ranks = 2 * n
        batch = 1024 if scaling == "strong" else 64 * ranks
        for seed in range(seeds):
            slow, long = np.exp(random.normal(0, noise, 2))
            needed = epochs(batch) * long
            steps = round(needed * IMAGES / batch)
            compute, communication = step(ranks, batch / ranks)
            seconds = {
                "start": 5.0,
                "update": steps * compute * slow,
                "communication": steps * communication * slow,
                "evaluation": 2 * needed / ranks,
            }
            made.append(Row(**{  # type: ignore[arg-type]
                "job": f"d-fast-{scaling}-{n}-seed{seed}", "data": "d", "method": "fast", "scaling": scaling,
                "nodes": n, "ranks": ranks, "seed": seed, "status": "converged", "global_batch": batch, "target": 0.5,
                "ttra": sum(seconds.values()), "epochs": needed, "steps": steps, "images": round(needed * IMAGES),
                "seconds": seconds, "noise_scale": 4000.0 * slow, "hardware": "made up", "versions": "none", **changed,
            }))  # fmt: skip
    return made
