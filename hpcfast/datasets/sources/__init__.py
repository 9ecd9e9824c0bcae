"""Where data sets come from. To add one, add a file with a :class:`Source`; its name is `data prepare`'s."""

import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from hpcfast.component import Component
from hpcfast.data.folder import images_below
from hpcfast.errors import UserError

DAMAGES = (OSError, EOFError, KeyError, tarfile.TarError, zlib.error)
"""What reading an archive raises that is damaged, or another one."""


class Item(NamedTuple):
    """One image of a data set and where it belongs."""

    split: str
    label: str
    image: Image.Image | bytes | Path
    """Pixels, to be written as PNG; or a file that is an image already, to be written as it is or linked to."""
    name: str | None = None
    """The file's name, for bytes and paths. A path without one is a folder with all of the class's images."""


class Source(Component, ABC):
    """A data set that can be written as an image folder."""

    source: Path | None = None
    """Where the data set's published files are, if it does not come with a package."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """All images of both splits, in a fixed order; UserError if ``source`` does not hold the files expected."""

    def about(self) -> dict[str, Any]:
        """What decides the images, for the manifest; as JSON has it."""
        return {"name": self.name}

    def remarks(self) -> list[str]:
        """What a person should know of the source, a sentence each."""
        return []

    def needed(self, what: str) -> Path:
        """``source``, which has to be ``what``; UserError if it was not given, or nothing is there."""
        if self.source is None or not self.source.exists():
            given = "" if self.source is None else f", and nothing is at {self.source}"
            raise UserError(f"data prepare {self.name.replace('_', '-')} needs --source, {what}{given}")
        return self.source


def images_in(folder: Path) -> list[str]:
    """Names of the images in a class folder, sorted."""
    return [image.removeprefix(f"{folder}/") for image in images_below(str(folder))[0]]


def extracted(place: Path, archive: str, folder: str, names: list[str]) -> dict[str, bytes]:
    """The files ``names`` in ``folder`` of ``archive`` (its published name), or of what it unpacks to.

    ``place`` is the archive, the folder that it unpacks to, or a folder that holds one of them. Raises any of DAMAGES.
    """
    places = [place / archive, place / folder, place]
    place = next((each for each in places if each.is_file() or (each / names[0]).is_file()), place)
    if not place.is_file():
        return {name: (place / name).read_bytes() for name in names}
    with tarfile.open(place) as tar:
        found = {name: tar.extractfile(f"{folder}/{name}") for name in names}
        return {name: file.read() for name, file in found.items() if file}
