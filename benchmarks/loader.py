"""Batches of training images from JPEGs like ImageNet's, on one thread or worker; files are in memory.

All take random crops of the same images, torchvision and webdataset the very crops that ours takes. The limit is
libjpeg-turbo decoding no more than the crop, which none can do without.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import Bench, rivals
from benchmarks.table import Row, compare
from hpcfast.bench import ratio, take_turns
from hpcfast.component import validate
from hpcfast.data import DataSettings, dali, feed
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.datasets import generate
from hpcfast.datasets.packs import write

TITLE = "Loading images"
KEY = 1
"""Of the augmentation."""
ASKED = {224: 1 / 1.35, 128: 1 / 1.6}
"""Of issue 3, against torchvision with Pillow."""


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    photos = photographs(bench)
    packed = bench.once("pack", lambda out: _pack(bench, photos, out, None))
    small = bench.once("pack-160", lambda out: _pack(bench, photos, out, 160))
    found = []
    for size in (32,) if bench.short else (224, 128):
        found += _at(bench, size, {"folder": photos, "pack": packed, "pack of short side 160": small})
    return found


def photographs(bench: Bench) -> Path:
    """A folder of JPEGs in four classes."""
    recipe = generate.Recipe(16, 4, (96, 72)) if bench.short else generate.Recipe(512, 4)
    return bench.once("photos", lambda out: generate.synthesise(recipe, out, lambda done: None))


def _pack(bench: Bench, photos: Path, out: Path, short_side: int | None) -> None:
    write.pack(photos, out, write.Recipe(16, short_side, 0), lambda done, total: None)


def _at(bench: Bench, size: int, places: dict[str, Path]) -> list[Row]:
    batch, rounds = (4, 1) if bench.short else (64, 5)
    splits = {name: read_splits(path)[0] for name, path in places.items()}
    cases: dict[str, Callable[[], object]] = {
        f"hpcfast, {name}": _drained(own(bench, split, size, batch)) for name, split in splits.items()
    }
    cases["decoder alone"] = _decoder(bench, splits["folder"], size, batch)
    cases["torchvision, Pillow"] = _drained(torchvision(bench, splits["folder"], size, batch, rivals.pil))
    cases["torchvision, decode_jpeg"] = _drained(torchvision(bench, splits["folder"], size, batch, rivals.decode_jpeg))
    cases["webdataset, Pillow, pack"] = _drained(_webdataset(bench, splits["pack"], places["pack"], size, batch))
    taken = take_turns(cases, rounds)
    taken = {f"{name}, {size} px": seconds for name, seconds in taken.items()}

    def row(ours: str, peer: str, rest: str, asked: float | None = None) -> Row:
        ours, peer, decoder = (f"{name}, {size} px" for name in (ours, peer, "decoder alone"))
        limit = None if "160" in ours else ratio(*([one.cpu for one in taken[name]] for name in (decoder, peer))).median
        return compare(taken, ours, peer, rest, limit, asked)

    resize = "resizing, and conversion to float"
    return [
        row("hpcfast, folder", "torchvision, Pillow", resize, ASKED.get(size)),
        row("hpcfast, folder", "torchvision, decode_jpeg", resize),
        row("hpcfast, pack", "webdataset, Pillow, pack", resize),
        row("hpcfast, pack", "hpcfast, folder", "reading costs little where files are in memory"),
        row("hpcfast, pack of short side 160", "hpcfast, folder", "less to decode and to resize; its crops show less",
            1 / 3 if size == 128 else None),
    ]  # fmt: skip


def settings(size: int, batch: int) -> DataSettings:
    """Random crops of ``size`` pixels."""
    values: dict[str, Any] = {"path": "none", "size": size, "batch_size": batch, "augment": "resized_crop_flip"}
    return validate(DataSettings, values)


def own(bench: Bench, split: Split, size: int, batch: int) -> Callable[[], Iterator[Any]]:
    """Ours."""
    shard = feed.Shard(0, 1, bench.world.device, 1)
    return lambda: feed.batches(split, np.arange(len(split)), settings(size, batch), shard, batch, KEY)


def torchvision(bench: Bench, split: Split, size: int, batch: int, read: rivals.Reader) -> Callable[[], Iterator[Any]]:
    """What torchvision's users have."""
    loader = DataLoader(rivals.Crops(split, np.arange(len(split)), KEY, size, read), batch, **_worker(bench))
    return lambda: iter(loader)


def _worker(bench: Bench) -> dict[str, Any]:
    """One: not forked, since DALI has threads; kept, since starting it takes seconds."""
    if bench.short:
        return {"num_workers": 0}
    return {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}


class Sample:
    """Pillow's crop of a sample of a pack; stands in for the split whose image it is."""

    def __init__(self, split: Split, size: int) -> None:
        self.labels = split.labels
        self._crops = rivals.Crops(self, np.arange(len(split)), KEY, size, rivals.pil)  # type: ignore[arg-type]

    def __call__(self, sample: dict[str, Any]) -> tuple[Tensor, int]:
        self._bytes = np.frombuffer(sample["jpg"], np.uint8)
        return self._crops[int(sample["__key__"])]

    def encoded(self, image: int) -> np.ndarray:
        return self._bytes


def _webdataset(bench: Bench, split: Split, place: Path, size: int, batch: int) -> Callable[[], Iterator[Any]]:
    shards = sorted(str(path) for path in (place / "train").glob("*.tar"))
    samples = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).map(Sample(split, size))
    loader = webdataset.WebLoader(samples.batched(batch), batch_size=None, **_worker(bench))
    return lambda: iter(loader)


def _decoder(bench: Bench, split: Split, size: int, batch: int) -> Callable[[], None]:
    ids = np.arange(len(split))

    def run() -> None:
        with closing(dali.read_encoded(split, ids, batch, {})) as encoded:
            pipe = dali.build(encoded, ids, settings(size, batch), bench.world.device, 1, batch, KEY, decode_only=True)
            for _ in range(0, len(ids), batch):
                pipe.run()

    return run


def _drained(batches: Callable[[], Iterator[Any]]) -> Callable[[], None]:
    def run() -> None:
        for _ in batches():
            pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run
