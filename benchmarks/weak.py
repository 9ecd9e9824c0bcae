"""Weak scaling: a fast step on two ranks with a thread and 128 images each, beside one on a single rank.

The network is that of configs/studies/weak.yaml, whose arithmetic outweighs its gradients. Steps of four kinds take
turns in one group of ranks: both ranks send gradients; both compute, send none, and meet at the end; both compute, and
meet nobody; one computes while the other waits. So the loss comes in parts: what two busy cores take from each other,
and waiting for the slower, which grows with the unrest of a machine; these two are the limit of the first row. The
rest is what sending costs. Horovod's threads look around in all four; what they take while idle is in none.
The efficiency is the inverse of the wall time's ratio; 0.95 is asked.
"""

from benchmarks import Bench
from benchmarks.ranks import measure
from benchmarks.table import Row, compare

TITLE = "Weak scaling"
KINDS = ("single", "silent", "meeting", "sending")
NAMES = ("1 rank, the other core idle", "2 ranks that send nothing", "2 ranks that only meet", "horovod, 2 ranks")


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    taken = measure(bench, "horovod", "--width", "32", "--batch", "128", "--rounds", "16", "--kinds", *KINDS)
    single, silent, meeting, sending = NAMES
    named = dict(zip(NAMES, (taken[kind] for kind in KINDS), strict=True))
    parts = [
        compare(named, silent, single, "caches, memory and clock rate, which cores share", 1.0),
        compare(named, meeting, silent, "one rank's step is now and then longer than the other's", 1.0),
        compare(
            named, sending, meeting, "Horovod's thread shares a core with the rank; much hides in the waiting", 1.0
        ),
    ]
    limit = compare(named, meeting, single, "").wall.median
    return [compare(named, sending, single, "the rows below, multiplied", limit, 1 / 0.95), *parts]
