"""CIFAR-10 and CIFAR-100 from their published archives."""

import os
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfast.datasets.sources import Item, Source, pickled
from hpcfast.datasets.sources.cifar10 import Cifar10
from hpcfast.datasets.sources.cifar100 import Cifar100
from hpcfast.errors import UserError
from tests.unit.archives import batch, python2, tar

NAMES = [b"airplane", b"automobile", b"bird"]


def cifar10() -> dict[str, bytes]:
    folder = "cifar-10-batches-py"
    files = {f"{folder}/data_batch_{i}": python2(batch(4, 3, "labels", 10 * i)) for i in range(1, 6)}
    files[f"{folder}/test_batch"] = python2(batch(3, 3, "labels", 90))
    return {f"{folder}/batches.meta": python2({"label_names": NAMES}), **files}


def cifar100() -> dict[str, bytes]:
    both = {"coarse_labels": [0] * 6}
    return {
        "cifar-100-python/train": python2(batch(6, 3, "fine_labels") | both),
        "cifar-100-python/test": python2(batch(6, 3, "fine_labels", 6) | both),
        "cifar-100-python/meta": python2({"fine_label_names": NAMES, "coarse_label_names": [b"thing"]}),
    }


SETS: dict[str, Any] = {
    "cifar-10-python.tar.gz": (Cifar10, cifar10, {"train": 20, "val": 3}),
    "cifar-100-python.tar.gz": (Cifar100, cifar100, {"train": 6, "val": 6}),
}


def items(kind: type[Source], source: Path | None) -> list[Item]:
    return list(kind(name=kind.__name__.lower(), source=source).items())


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("given", ["archive", "its folder", "unpacked", "the folder of what is unpacked"])
def test_images_and_classes_are_read(tmp_path: Path, name: str, given: str) -> None:
    kind, files, counts = SETS[name]
    source = tmp_path / name
    if given in ("archive", "its folder"):
        tar(tmp_path / name, files())
    else:
        for path, data in files().items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(data)
        source = (tmp_path / path).parent
    found = items(kind, source.parent if given.startswith(("its", "the")) else source)
    assert Counter(item.split for item in found) == counts
    assert {item.label.encode() for item in found} == set(NAMES)
    for item in found:
        red, green, blue = np.asarray(item.image).transpose(2, 0, 1)
        assert (red == red[0, 0]).all()
        assert {green.min(), green.max(), blue.min(), blue.max()} == {100, 200}
    assert len({np.asarray(item.image)[0, 0, 0] for item in found}) == len(found)


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    files = cifar10()
    files["cifar-10-batches-py/data_batch_3"] = pickle.dumps({"data": Evil(tmp_path / "ran")}, protocol=2)
    tar(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(
        UserError, match=r"data_batch_3 is damaged: .*asks for .*mkdir, which no published archive does"
    ):
        items(Cifar10, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [eval, os.system, np.load, Evil(Path("ran"))])
def test_only_arrays_are_unpickled(value: object) -> None:
    with pytest.raises(ValueError, match="UnpicklingError: it asks for"):
        pickled.load(pickle.dumps({"data": value}))


DAMAGES: dict[str, Any] = {
    "cut": lambda data: data[:-40],
    "text": lambda data: b"no pickle at all",
    "a list": lambda data: pickle.dumps([1]),
    "no labels": lambda data: python2({"data": np.zeros((2, 3072), np.uint8)}),
    "fewer labels": lambda data: python2(batch(3, 3, "labels") | {"labels": [0, 1]}),
    "unknown label": lambda data: python2(batch(3, 3, "labels") | {"labels": [0, 1, 3]}),
    "other pixels": lambda data: python2({"data": np.zeros((1, 784), np.uint8), "labels": [0]}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_batch_is_named(tmp_path: Path, damage: Any) -> None:
    files = cifar10()
    files["cifar-10-batches-py/data_batch_5"] = damage(files["cifar-10-batches-py/data_batch_5"])
    tar(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(UserError, match=r"data_batch_5 is damaged: .*Fetch cifar-10-python\.tar\.gz again"):
        items(Cifar10, tmp_path / "cifar-10-python.tar.gz")


@pytest.mark.parametrize("what", ["nothing", "missing", "empty folder", "text", "cut", "other archive"])
def test_what_is_no_archive_is_refused(tmp_path: Path, what: str) -> None:
    source = tmp_path / "given"
    if what == "empty folder":
        source.mkdir()
    elif what == "text":
        source.write_text("no archive")
    elif what in ("cut", "other archive"):
        data = tar(tmp_path / "a.tar.gz", cifar100() if what == "other archive" else cifar10())
        source.write_bytes(data[: len(data) // 2] if what == "cut" else data)
    nothing = what in ("nothing", "missing")
    message = "data prepare cifar10 needs --source, cifar-10-python.tar.gz" if nothing else f"--source {source} is not"
    with pytest.raises(UserError, match=re.escape(message)):
        items(Cifar10, None if what == "nothing" else source)
