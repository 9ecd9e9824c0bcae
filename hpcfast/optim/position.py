"""A point of a run that moves with the run's end, or does not: ``25%`` or ``1/4``, or ``5 epochs``."""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

_SHARE = re.compile(r"(\d{1,9})/(\d{1,9})")
_FORM = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*(%|epochs?)")


def _read(value: object) -> str:
    """The same point, always with a unit: a number alone might be either, and nobody would see which it was."""
    if value == 0 and not isinstance(value, bool):
        return "0%"
    text = value.strip() if isinstance(value, str) else ""
    if (share := _SHARE.fullmatch(text)) and int(share[2]):
        text = f"{100 * int(share[1]) / int(share[2])!r}%"
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{value!r} has no unit: write a share of the run, such as 25% or 1/4, or '5 epochs'")
    number, is_share = float(match[1]), match[2] == "%"
    if math.isinf(number) or (is_share and number > 100):
        raise ValueError(f"{value!r} is after the run's end; a share is at most 100%")
    return f"{number!r}".removesuffix(".0") + ("%" if is_share else " epochs")


Position = Annotated[str, BeforeValidator(_read)]
"""A share of the run, kept in percent, or epochs, with the unit. 0 is its start."""


def epoch_of(position: str, epochs: float) -> float:
    """The epoch that ``position`` is in a run of so many ``epochs``."""
    if position.endswith("%"):
        return round(float(position[:-1]) / 100 * epochs, 9)  # a third of 150 is 50
    return float(position.removesuffix(" epochs"))


def fixed(position: str, epochs: float) -> str:
    """The same point of a run of so many ``epochs``, in epochs."""
    return _read(f"{epoch_of(position, epochs)!r} epochs") if epoch_of(position, epochs) else "0%"


def in_epochs(value: object) -> object:
    """A number that was a :data:`Position` in earlier versions, and meant epochs, with its unit; all else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value!r} epochs" if is_number and value else value
