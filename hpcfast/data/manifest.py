"""Packs: a data set in few large files, as parallel file systems like them. What they are.

``manifest.json`` says what there is, with hashes; ``train/shard-000000.tar`` holds ``KEY.jpg`` and ``KEY.cls`` (the
class's number, ASCII) of image after image, as WebDataset has them; ``train/shard-000000.npy`` says where in it each
image lies: a fixed 20 bytes an image, which numpy reads without parsing a line for each of a million.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from hpcfast.component import Invalid, Settings, validate
from hpcfast.errors import UserError
from hpcfast.runs.reading import read_json

MANIFEST = "manifest.json"
FORMAT = "hpcfast-pack"
VERSION = 1
INDEX = np.dtype([("offset", "<i8"), ("size", "<u4"), ("label", "<i4"), ("suffix", "S4")])
"""A row an image: its first byte in the shard, its bytes, its class, its kind of file (``jpg``)."""


class Blob(Settings):
    """What a whole file is."""

    bytes: PositiveInt
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Shard(Settings):
    """One shard, ``name`` below the pack without suffix: images and index."""

    name: str = Field(pattern=r"^(train|val)/shard-\d{6}$")
    images: PositiveInt
    tar: Blob
    npy: Blob

    def files(self) -> dict[str, Blob]:
        """Both files, by their names below the pack."""
        return {f"{self.name}.tar": self.tar, f"{self.name}.npy": self.npy}


class Resize(Settings):
    """What was done to images whose shorter side was longer; everything the pixels depend on."""

    short_side: PositiveInt
    method: str
    pillow: str


class Head(Settings):
    """What a pack was made from, and how: where it is the same, so are all bytes."""

    format: Literal["hpcfast-pack"] = "hpcfast-pack"
    version: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=2)
    seed: int
    shard_mb: PositiveInt
    resize: Resize | None
    source: str
    """SHA-256 of the names of the images, in the order of the source."""
    contents: str | None = None
    """Digest of the identities of the source's splits; packs of before it was noted have none."""
    left_out: dict[str, int]
    """Images of each split that the source's list of skips names."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_line_breaks(cls, values: Any) -> Any:
        """Names of class folders are no settings: any that a file system takes will do."""
        return values


class Manifest(Head):
    """``manifest.json``; shards are in the order of their images' ids."""

    shards: tuple[Shard, ...]

    def files(self) -> dict[str, Blob]:
        """All but the manifest, by their names below the pack."""
        return {name: blob for shard in self.shards for name, blob in shard.files().items()}

    def of(self, split: str) -> list[Shard]:
        return [shard for shard in self.shards if shard.name.startswith(f"{split}/")]


def read(root: Path) -> Manifest:
    """What ``root`` says it holds; UserError if it is no pack, one of another version, or its manifest is damaged."""
    again = "make one with 'hpcfast data pack'"
    try:
        values = read_json(root / MANIFEST)
    except (OSError, ValueError) as error:
        raise UserError(f"{root / MANIFEST} cannot be read: {error}. Is {root} a pack? If not, {again}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{root} is no pack: {MANIFEST} does not say format {FORMAT}; {again}")
    if values.get("version") != VERSION:
        raise UserError(f"{root} is a pack of version {values.get('version')}, this hpcfast reads {VERSION}; {again}")
    try:
        return validate(Manifest, values)
    except Invalid as error:
        raise UserError(f"{root / MANIFEST} is damaged: {error}; {again}") from None
