"""``hpcfast data pack``: write a data set as shards of one size, in an order that is mixed over all classes.

All bytes are functions of the images, their names and the settings alone. A shard is there whole or not at all, and so
is the pack: until then the folder's name ends in ``.part``, and its manifest lists the shards that are done. A killed
command, given again, writes the others.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
from PIL import Image

from hpcfast.data.identity import identify
from hpcfast.data.images import ImageError, coloured, parsed, ready, turned
from hpcfast.data.manifest import INDEX, MANIFEST, Blob, Head, Resize, Shard
from hpcfast.data.packed import fault_of
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split, digest
from hpcfast.datasets.unfinished import fill, save
from hpcfast.errors import UserError
from hpcfast.runs.files import replacing
from hpcfast.runs.names import printable
from hpcfast.runs.reading import read_json

METHOD = "Lanczos, JPEG quality 95"  # of :func:`shrunk`
SAMPLE = 256
"""Images whose mean size says how many of all fill a shard: a random sample, since the order is random."""
BLOCK = 512
"""Images that are held in memory."""
THREADS = 32
"""That read at least, whatever the cores: they hide the time that a parallel file system takes to open a file."""


class Recipe(NamedTuple):
    """What the user asked for."""

    shard_mb: int
    short_side: int | None
    seed: int


class Part(NamedTuple):
    """One shard to be written: these images of a split, in this order; ``first`` is the first one's id in the pack."""

    name: str
    split: Split
    ids: np.ndarray
    first: int

    def write(self, root: Path, short_side: int | None) -> Shard:
        """Write it; UserError if an image cannot be read, OSError if ``root`` cannot be written."""
        read = partial(_contents, self.split, short_side=short_side)
        # In blocks, since map begins with all it is given: memory is that of a block of images.
        blocks = [self.ids[at : at + BLOCK].tolist() for at in range(0, len(self.ids), BLOCK)]
        # Pillow uses the cores with threads, too.
        with ThreadPoolExecutor(max(THREADS, len(os.sched_getaffinity(0)))) as pool:
            try:
                images = chain.from_iterable(pool.map(read, block) for block in blocks)
                return _write_shard(root, self.name, self.first, images)
            finally:
                pool.shutdown(cancel_futures=True)


def _contents(split: Split, image: int, short_side: int | None) -> tuple[str, bytes, int]:
    """The kind of an image's file (``jpg``), its bytes as they go into the pack, and its class."""
    name, label = split.files[image], int(split.labels[image])
    try:
        encoded = split.encoded(image)
        data = encoded.tobytes()
        if not data:
            raise OSError("it is empty")
        ready(encoded)  # what training would leave out is not packed
        small = shrunk(data, short_side) if short_side else None
    except (OSError, ImageError) as error:
        raise UserError(
            f"{name} cannot be read: {error}. 'hpcfast data verify' finds all such images and lists them in skips.txt, "
            f"and packing leaves those out."
        ) from None
    suffix = name.rpartition(".")[2].lower().replace("jpeg", "jpg")
    return (suffix, data, label) if small is None else ("jpg", small, label)


def shrunk(data: bytes, short_side: int) -> bytes | None:
    """A JPEG of the image, with a shorter side of ``short_side`` pixels; None where it is that short already."""
    image = parsed(data)
    scale = short_side / min(image.size)
    if scale >= 1:
        return None
    width, height = (max(short_side, round(side * scale)) for side in image.size)
    # libjpeg may leave out what half of it is thrown away again: as good, and a third of the time.
    image.draft(None, (2 * width, 2 * height))
    small = coloured(image).resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # Readers turn a photograph as its camera says; the copy says nothing any more.
    turned(small, image).save(out, "JPEG", quality=95)
    return out.getvalue()


def pack(data: Path, out: Path, recipe: Recipe, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the pack ``out`` of the images in ``data`` as :func:`fill` does, and return its manifest.

    ``progress`` is told how many images are done, and of how many. UserError also if ``data`` is no data set or an
    image of it cannot be read.
    """
    about, parts = _plan(data, read_splits(data), recipe)

    def write(half: Path) -> dict[str, Any]:
        for name in ("train", "val"):
            (half / name).mkdir(exist_ok=True)
        begun = read_json(half / MANIFEST).get("shards", [])
        done = {}
        for shard in begun:  # files have their names only since they were hashed and are on disk
            files = Shard.model_validate(shard).files().items()
            if not any(fault_of(half / name, blob, quick=True) for name, blob in files):
                done[shard["name"]] = shard
        for part in parts:
            if part.name not in done:
                done[part.name] = part.write(half, recipe.short_side).model_dump(mode="json")
                save(half / MANIFEST, about | {"shards": list(done.values())})
                progress(sum(shard["images"] for shard in done.values()), sum(len(part.ids) for part in parts))
        return {"shards": [done[part.name] for part in parts]}

    return fill(out, MANIFEST, about, "a pack of these images and settings", write)


def _plan(data: Path, both: tuple[Split, Split], recipe: Recipe) -> tuple[dict[str, Any], list[Part]]:
    """What the pack depends on, and its shards."""
    splits = dict(zip(("train", "val"), both, strict=True))
    parts: list[Part] = []
    names = hashlib.sha256()
    for number, (name, split) in enumerate(splits.items()):
        packed = (split.files[i].removeprefix(f"{data}/") for i in split.good.tolist())
        names.update("\n".join(packed).encode("utf-8", "surrogateescape"))
        if len(np.unique(split.labels[split.good])) < len(split.classes):
            raise UserError(f"{data}: skips.txt leaves a class of {name} without images; put good ones there")
        parts += _cut(name, split, np.random.default_rng([recipe.seed, number]).permutation(split.good), recipe)
    # A pack's manifest is JSON, whose text is Unicode.
    if odd := [name for name in splits["train"].classes if any("\ud800" <= char <= "\udfff" for char in name)]:
        shown = printable(odd[0])
        raise UserError(f"class folder {shown} has a name that a pack cannot hold; rename it in train/ and val/")
    side = recipe.short_side
    resize = Resize(short_side=side, method=METHOD, pillow=PIL.__version__) if side else None
    head = Head(
        classes=splits["train"].classes, seed=recipe.seed, shard_mb=recipe.shard_mb, resize=resize,
        source=names.hexdigest(), contents=digest(identify(split).digest for split in both),
        left_out={name: len(split.skips) for name, split in splits.items()},
    )  # fmt: skip
    return head.model_dump(mode="json"), parts


def _cut(name: str, split: Split, order: np.ndarray, recipe: Recipe) -> Iterator[Part]:
    """Divide a split into shards of as many images each, give or take one."""
    with ThreadPoolExecutor() as pool:
        sample = pool.map(partial(_contents, split, short_side=recipe.short_side), order[:SAMPLE].tolist())
        sizes = [_room(len(data)) for _, data, _ in sample]
    count = max(1, round(len(order) * float(np.mean(sizes)) / (recipe.shard_mb * 1e6)))
    edges = np.arange(count + 1) * len(order) // count
    for number, (first, end) in enumerate(pairwise(edges.tolist())):
        yield Part(f"{name}/shard-{number:06d}", split, order[first:end], first)


class HashedFile:
    """Counts and hashes what is written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def blob(self) -> Blob:
        return Blob(bytes=self.bytes, sha256=self._hash.hexdigest())


@contextmanager
def hashed(path: Path) -> Iterator[HashedFile]:
    """Write ``path``, whole or not at all, and hash it on the way."""
    with replacing(path) as part, part.open("wb") as file:
        yield HashedFile(file)


def _write_shard(root: Path, name: str, first: int, images: Iterable[tuple[str, bytes, int]]) -> Shard:
    """Write ``root/name.tar``, then ``root/name.npy``, of images (suffix, bytes, label) from id ``first`` on."""
    rows = []
    with hashed(root / f"{name}.tar") as tar:
        for key, (suffix, data, label) in enumerate(images, first):
            rows.append((tar.bytes + tarfile.BLOCKSIZE, len(data), label, suffix))
            _add(tar, f"{key:08d}.{suffix}", data)
            _add(tar, f"{key:08d}.cls", str(label).encode())
        tar.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar file
    with hashed(root / f"{name}.npy") as npy:
        np.save(npy, np.array(rows, INDEX), allow_pickle=False)
    return Shard(name=name, images=len(rows), tar=tar.blob(), npy=npy.blob())


def _room(size: int) -> int:
    """Bytes that an image of ``size`` bytes takes in a shard, with its label."""
    block = tarfile.BLOCKSIZE
    return 3 * block + -(-size // block) * block


def _add(tar: HashedFile, name: str, data: bytes) -> None:
    """Append a file. The tarfile module would not say where its bytes will lie."""
    info = tarfile.TarInfo(name)  # of nobody, of 1970: nothing that differs from run to run
    info.size = len(data)
    tar.write(info.tobuf(tarfile.USTAR_FORMAT))
    tar.write(data)
    tar.write(bytes(-len(data) % tarfile.BLOCKSIZE))
