"""Tiny data sets in the formats in which the real ones are published."""

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from scipy.io import savemat

from hpcfast.datasets.sources import imagenet

WNIDS = ("n02000000", "n01000000", "n03000000")
"""Of the ids 1, 2, 3, which are not in the order of the names."""
TRUTH = (2, 3, 1, 2, 1, 3)


def tar(path: Path, files: dict[str, bytes]) -> bytes:
    """Write an archive, gzipped if its name says so; also return its bytes."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.read_bytes()


def batch(n: int, classes: int, key: str, first: int = 0) -> dict[str, Any]:
    """A batch of CIFAR; image i has red of i, green of 100 and blue of 200."""
    pixels = np.repeat(np.array([[0, 100, 200]], np.uint8), n, 0).repeat(1024, 1)
    pixels[:, :1024] = np.arange(first, first + n)[:, None]
    return {"data": pixels, key: [i % classes for i in range(n)]}


class _Python2(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes what Python 2 wrote: all strings are bytes."""

    def save_string(self, value: bytes | str) -> None:
        data = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch: ClassVar = pickle._Pickler.dispatch | {str: save_string, bytes: save_string}  # type: ignore[attr-defined]


def python2(value: dict[str, Any]) -> bytes:
    """Pickle as Python 2 did, with a numpy of old."""
    out = io.BytesIO()
    _Python2(out, protocol=2).dump(value)
    return out.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def jpeg(shade: int) -> bytes:
    """A small grey JPEG, of whose bytes no two shades share all."""
    out = io.BytesIO()
    Image.new("L", (8, 8), shade).save(out, "JPEG")
    return out.getvalue()


def devkit(path: Path) -> Path:
    """Write the development kit, as an archive or a folder."""
    mat = io.BytesIO()
    kinds = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object), ("num_children", float)]
    synsets = [(i, wnid, "a thing", 0) for i, wnid in enumerate(WNIDS, 1)] + [(1001, "n09000000", "a group", 3)]
    savemat(mat, {"synsets": np.array(synsets, dtype=kinds)[:, None]})
    truth = "".join(f"{number}\n" for number in TRUTH).encode()
    files = {imagenet.META: mat.getvalue(), imagenet.TRUTH: truth}
    if path.suffix:
        tar(path, {f"{imagenet.DEVKIT}/{name}": data for name, data in files.items()})
    else:
        write(path, files)
    return path


def train_images() -> dict[str, dict[str, bytes]]:
    """Two images a class, by class and name."""
    return {w: {f"{w}_{i}.JPEG": jpeg(40 * c + i) for i in (1, 22)} for c, w in enumerate(WNIDS)}


def val_images() -> dict[str, bytes]:
    """One image for each line of the ground truth, by name."""
    return {f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(150 + 10 * i) for i in range(1, len(TRUTH) + 1)}


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, in subfolders as their names say."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def imagenet_archives(folder: Path) -> Path:
    """The three archives as they are published."""
    inner = {f"{wnid}.tar": tar(folder / "inner.tar", images) for wnid, images in train_images().items()}
    (folder / "inner.tar").unlink()
    tar(folder / imagenet.TRAIN, inner)
    tar(folder / imagenet.VAL, val_images())
    devkit(folder / f"{imagenet.DEVKIT}.tar.gz")
    return folder


def imagenet_folders(folder: Path) -> Path:
    """Training images in class folders, validation images flat, the devkit unpacked."""
    for wnid, images in train_images().items():
        write(folder / "train" / wnid, images)
    write(folder / "val", val_images())
    devkit(folder / imagenet.DEVKIT)
    return folder
