"""How fast training images come with how many threads: what ``data.threads`` should be on this machine.

CPU time counts all threads. Files are in memory after the first round: this is about decoding, not about the disk.
"""

import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpcfast.bench import spread, take_turns
from hpcfast.component import validate
from hpcfast.data import DataSettings, feed
from hpcfast.data.made import SyntheticSplit
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.errors import UserError

ABOUT = 0.97
"""As fast as the fastest: less is not told apart from chance."""


def measure(data: Path, size: int, images: int, batch: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Read random crops of ``size`` pixels of up to ``images`` images a round, with 1, 2, 4, … threads to all cores.

    Returns:
        ``rows``, one a number of ``threads``: ``loader`` (always hpcfast), ``images_per_second`` and
        ``images_per_core_second`` (medians over rounds), ``spread`` of the latter (least, greatest); ``best``, the row
        of the fewest threads among the fastest; ``images`` and ``cores``.

    Raises:
        UserError: there is no data, or its images have no files.
    """
    split = read_splits(data)[0]
    if isinstance(split, SyntheticSplit):
        raise UserError(f"{data} has nothing to decode; give a folder or pack, e.g. of 'hpcfast data synthetic'")
    ids, cores = split.evenly(images), len(os.sched_getaffinity(0))
    n = len(ids)
    values = {"path": data, "size": size, "batch_size": batch, "augment": "resized_crop_flip"}
    read = partial(_read, split, ids, validate(DataSettings, values))
    threads = sorted({cores, *(1 << i for i in range(cores.bit_length()))})
    taken = take_turns({each: partial(read, feed.Shard(0, 1, device, each)) for each in threads}, rounds)
    rows: list[dict[str, Any]] = []
    for each in threads:
        median, *extremes = spread([n / one.cpu for one in taken[each]])
        speed = statistics.median(n / one.wall for one in taken[each])
        row = {"loader": "hpcfast", "threads": each, "images_per_second": speed}
        rows.append({**row, "images_per_core_second": median, "spread": extremes})
    return {"rows": rows, "best": best(rows), "images": n, "cores": cores}


def _read(split: Split, ids: np.ndarray, settings: DataSettings, shard: feed.Shard) -> None:
    for _ in feed.batches(split, ids, settings, shard, settings.batch_size, 1):
        pass
    if shard.device.type == "cuda":
        torch.cuda.synchronize()


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rows that are about as fast as the fastest, the one of the fewest threads."""
    enough = ABOUT * max(row["images_per_second"] for row in rows)
    return min((row for row in rows if row["images_per_second"] >= enough), key=lambda row: row["threads"])
