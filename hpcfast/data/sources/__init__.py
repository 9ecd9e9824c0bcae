"""Where data sets come from. To add one, add a file with a :class:`Source`; its name is `data prepare`'s."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from hpcfast.component import Component


class Item(NamedTuple):
    """One image of a data set and where it belongs."""

    split: str
    label: str
    image: Image.Image


class Source(Component, ABC):
    """A data set that can be written as an image folder."""

    source: Path | None = None
    """Folder that holds the data set's published files, where it does not come with a package."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """All images of both splits, in a fixed order.

        Raises:
            UserError: ``source`` is missing or does not hold the files expected.
        """
