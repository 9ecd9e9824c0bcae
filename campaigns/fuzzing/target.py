"""A reader of files that somebody may have damaged, and the files that hpcfast itself wrote for it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """``read`` writes bytes to a file and reads that as hpcfast does; it may raise nothing but ``clear`` errors."""

    kind: str
    """Of :data:`fuzzing.mutations.KINDS`."""
    seeds: list[bytes]
    read: Callable[[bytes], object]
    clear: tuple[type[Exception], ...] = (UserError,)


def of_file(kind: str, file: Path, read: Callable[[], object], *more: bytes) -> Target:
    """A target whose one seed is what is in ``file`` now."""

    def again(data: bytes) -> None:
        file.write_bytes(data)
        try:
            read()
        finally:
            file.write_bytes(good)

    good = file.read_bytes()
    return Target(kind, [good, *more], again)


def cached(read: Callable[[Any], Any], file: Callable[[Any], Path]) -> Callable[[Any], Any]:
    """The same, quicker where the file is as it was."""
    known: dict[bytes, Any] = {}

    def reading(of: Any) -> Any:
        text = file(of).read_bytes()
        if text not in known:
            found = read(of)
            known.clear()
            known[text] = found
        return known[text]

    return reading
