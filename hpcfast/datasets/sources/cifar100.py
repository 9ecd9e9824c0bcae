"""CIFAR-100 (Krizhevsky 2009) from its published archive for Python; the 100 fine classes."""

from collections.abc import Iterator

from hpcfast.datasets.sources import Item, Source, pickled

ARCHIVE, FOLDER = "cifar-100-python.tar.gz", "cifar-100-python"
BATCHES = {"train": "train", "test": "val"}


class Cifar100(Source):
    """50,000 training and 10,000 validation images, 32x32, colour."""

    def items(self) -> Iterator[Item]:
        source = self.needed(f"{ARCHIVE} or what it unpacks to")
        yield from pickled.read(source, ARCHIVE, FOLDER, BATCHES, "meta", (b"fine_labels", b"fine_label_names"))
