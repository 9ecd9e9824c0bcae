"""Names that people gave to classes, runs and files, made fit to be shown; any string may be one."""

import re

_JOINERS = "\u200c\u200d"
"""Invisible, and part of how some languages are written."""


def printable(name: str, most: int = 0) -> str:
    """``name`` in one line; of one longer than ``most`` characters (0: any length will do) both ends.

    Control characters, marks that turn the direction of text and bytes that are no UTF-8 become escapes.
    """
    shown = "".join(char if char.isprintable() or char in _JOINERS else _escape(char) for char in name)
    if most and len(shown) > most:
        start = (most - 1) // 2
        shown = f"{shown[:start]}…{shown[start + 1 - most :]}"
    return shown


def in_lines(text: str) -> str:
    """A text for a terminal, whose lines stay lines; whatever else would steer the terminal becomes an escape."""
    return "\n".join(map(printable, text.split("\n")))


def in_markdown(text: str) -> str:
    """Plain text for Markdown, in one line: no HTML, no code, no link and no new cell."""
    return re.sub(r"[\\`<|]|\](?=\()", r"\\\g<0>", printable(text))


def in_figure(name: str, most: int) -> str:
    """``name`` for matplotlib, to which what stands between two ``$`` is a formula."""
    return printable(name, most).replace("$", r"\$")


def _escape(char: str) -> str:
    byte = ord(char) - 0xDC00  # where Python keeps bytes that are no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()
