"""``make bench``: how fast each stage is, beside what a user would run instead and beside its limit.

A file a stage; ``peers`` holds what others would run, ``table`` writes docs/speed.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # starting Horovod takes seconds, and not all need it
    from hpcfast.distributed.comm import World


@dataclass(frozen=True)
class Bench:
    """What every stage is given."""

    world: World
    place: Path
    """A folder for data and runs, which are kept from one call to the next."""
    short: bool
    """Only see that it works: the numbers mean nothing."""

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder ``name``, which ``make`` writes where it is missing."""
        if not (self.place / name).exists():
            make(self.place / name)
        return self.place / name
