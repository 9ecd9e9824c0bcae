"""CIFAR-10 (Krizhevsky 2009) from its published archive for Python."""

from collections.abc import Iterator

from hpcfast.datasets.sources import Item, Source, pickled

ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
BATCHES = {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "val"}


class Cifar10(Source):
    """50,000 training and 10,000 validation images, 32x32, colour."""

    def items(self) -> Iterator[Item]:
        source = self.needed(f"{ARCHIVE} or what it unpacks to")
        yield from pickled.read(source, ARCHIVE, FOLDER, BATCHES, "batches.meta", (b"labels", b"label_names"))
