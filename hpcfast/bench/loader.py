"""Loaders of training batches side by side, all with the same crops of the same images; what each stage costs.

CPU time counts all threads and worker processes. Files are in memory after the first round: this is about decoding,
not about the disk. The ceiling is libjpeg-turbo, as DALI calls it, decoding no more than the crop.
"""

import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from hpcfast.bench import rivals
from hpcfast.bench.turns import Taken, ratio, spread, take_turns
from hpcfast.component import validate
from hpcfast.data import DataSettings, dali
from hpcfast.data.readahead import Feed
from hpcfast.data.split import Split
from hpcfast.data.synthetic import SyntheticSplit
from hpcfast.errors import UserError

KEY = 1
"""Of the augmentation."""
PREFETCH = (1, 2, 4)
ABOUT = 0.97
"""As fast as the fastest: less is not told apart from chance."""
OURS, PIL, CEILING = "hpcfast", "torchvision, PIL", "decoder alone"


@dataclass(frozen=True)
class Work:
    """What every loader does in a round."""

    data: Path
    size: int
    images: int
    batch: int
    threads: int
    rounds: int
    prefetch: int = 2

    def settings(self) -> DataSettings:
        return validate(
            DataSettings,
            {"path": self.data, "size": self.size, "batch_size": self.batch, "augment": "resized_crop_flip",
             "prefetch": self.prefetch},
        )  # fmt: skip


Round = Callable[[], None]


def measure(split: Split, work: Work, device: torch.device) -> dict[str, Any]:
    """Measure loaders, stages and settings.

    Returns:
        ``rows``, one a loader: ``loader``, ``threads``, ``images_per_second``, ``images_per_core_second`` (medians over
        rounds), ``spread`` of the latter, ``relative_to_pil`` (median over rounds of the ratio of CPU times in the same
        round) and its ``relative_spread``. ``microseconds`` of CPU an image, by stage of our pipeline. ``sweep``: rows
        of ``threads``, ``prefetch``, ``images_per_second``; ``best``, the cheapest of the fastest; and the settings.

    Raises:
        UserError: the images have no files.
    """
    if isinstance(split, SyntheticSplit):
        raise UserError(f"{work.data} has nothing to decode; give a folder or pack, e.g. of 'hpcfast data synthetic'")
    ids = split.evenly(work.images)
    work = replace(work, images=len(ids))
    shard = dali.Shard(0, 1, device, work.threads)
    loaders = {
        OURS: _ours(split, ids, work, shard),
        PIL: _torchvision(split, ids, work, rivals.pil),
        "torchvision, decode_jpeg": _torchvision(split, ids, work, rivals.decode_jpeg),
        CEILING: _drained(lambda: _decoding(split, ids, work, shard)),
        "reading alone": _drained(lambda: _reading(split, ids, work)),
    }
    taken = take_turns(loaders, work.rounds)
    sweep = _sweep(split, ids, work, shard)
    return {
        "rows": [_row(name, taken, work) for name in loaders],
        "microseconds": _stages({name: statistics.median(t.cpu for t in ts) for name, ts in taken.items()}, work),
        "sweep": sweep,
        "best": _best(sweep),
        "size": work.size,
        "images": work.images,
        "batch": work.batch,
        "rounds": work.rounds,
        "device": str(device),
        "cores": len(os.sched_getaffinity(0)),
    }


def _row(name: str, taken: dict[str, list[Taken]], work: Work) -> dict[str, Any]:
    a_core = spread([work.images / each.cpu for each in taken[name]])
    relative = ratio([each.cpu for each in taken[PIL]], [each.cpu for each in taken[name]])
    return {
        "loader": name,
        "threads": work.threads,
        "images_per_second": statistics.median(work.images / each.wall for each in taken[name]),
        "images_per_core_second": a_core.median,
        "spread": [a_core.low, a_core.high],
        "relative_to_pil": relative.median,
        "relative_spread": [relative.low, relative.high],
    }


def _stages(cpu: dict[str, float], work: Work) -> dict[str, float]:
    """What each stage adds; a stage's cost is what is saved by leaving it and all after it out."""
    names = ("reading alone", CEILING, OURS)
    costs = [0.0] + [cpu[name] / work.images * 1e6 for name in names]
    labels = ("read", "decode the crop", "resize, mirror, to float, to the device")
    return {label: after - before for label, before, after in zip(labels, costs[:-1], costs[1:], strict=True)}


def _drained(batches: Callable[[], Iterable[object]]) -> Round:
    def run() -> None:
        for _ in batches():
            pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def _ours(split: Split, ids: np.ndarray, work: Work, shard: dali.Shard) -> Round:
    return _drained(lambda: dali.batches(split, ids, work.settings(), shard, work.batch, KEY))


def _torchvision(split: Split, ids: np.ndarray, work: Work, read: rivals.Reader) -> Round:
    # Not forked, since DALI has threads; kept, since starting them takes seconds.
    workers: dict[str, Any] = {"multiprocessing_context": "spawn", "persistent_workers": True}
    crops = rivals.Crops(split, ids, KEY, work.size, read)
    loader = DataLoader(crops, work.batch, num_workers=work.threads, **workers)
    return _drained(lambda: loader)


def _decoding(split: Split, ids: np.ndarray, work: Work, shard: dali.Shard) -> Iterator[object]:
    with Feed(split, ids, work.batch) as feed:
        pipe = dali.build(feed, ids, work.settings(), shard, work.batch, KEY, decode_only=True)
        for _ in range(0, len(ids), work.batch):
            yield pipe.run()


def _reading(split: Split, ids: np.ndarray, work: Work) -> Iterator[object]:
    with Feed(split, ids, work.batch) as feed:
        yield from feed


def _sweep(split: Split, ids: np.ndarray, work: Work, shard: dali.Shard) -> list[dict[str, Any]]:
    """Our loader with other numbers of threads; then, with the best of them, with other depths of prefetching."""
    cores = len(os.sched_getaffinity(0))
    powers = [1 << i for i in range(cores.bit_length())]
    rows = _try(split, ids, shard, [replace(work, threads=n) for n in sorted({*powers, cores, work.threads})])
    best = _best(rows)["threads"]
    depths = [depth for depth in PREFETCH if depth != work.prefetch]
    return rows + _try(split, ids, shard, [replace(work, threads=best, prefetch=depth) for depth in depths])


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the settings that are about as fast as the fastest, the most modest."""
    enough = ABOUT * max(row["images_per_second"] for row in rows)
    fast = [row for row in rows if row["images_per_second"] >= enough]
    return min(fast, key=lambda row: (row["threads"], row["prefetch"]))


def _try(split: Split, ids: np.ndarray, shard: dali.Shard, works: list[Work]) -> list[dict[str, Any]]:
    loaders = {work: _ours(split, ids, work, replace(shard, threads=work.threads)) for work in works}
    taken = take_turns(loaders, works[0].rounds)
    return [
        {
            "threads": work.threads,
            "prefetch": work.prefetch,
            "images_per_second": work.images / statistics.median(each.wall for each in taken[work]),
        }
        for work in works
    ]
