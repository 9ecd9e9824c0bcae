"""Lines of several processes in one terminal or log."""

from typing import TextIO


def write(text: str, stream: TextIO) -> None:
    """Write ``text`` and its line break in one piece: what other ranks write there comes before or after it."""
    stream.write(f"{text}\n")
    stream.flush()
