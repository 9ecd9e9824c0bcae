"""Numbers and attacks as people write them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def attack_in_words(attack: dict[str, Any]) -> str:
    """An attack, with the threat model where it is given, e.g. ``pgd 50 x 10, L2 eps 2``."""
    numbers = " x ".join(str(attack[key]) for key in ("steps", "restarts") if key in attack)
    words = " ".join(filter(None, (str(attack.get("name", "?")), numbers)))
    return f"{words}, {threat(attack)}" if "eps" in attack else words


def threat(values: dict[str, Any]) -> str:
    """A threat model, e.g. ``L2 eps 2`` or ``Linf eps 8/255``; eps is in pixels, which lie in [0,1]."""
    eps, levels = values["eps"], values["eps"] * 255
    short = f"{eps:.4g}"
    in_levels = float(short) != eps and abs(levels - round(levels)) < 1e-6
    return f"{values['norm']} eps {f'{round(levels)}/255' if in_levels else short}"


def percent(fraction: float) -> str:
    """A fraction, e.g. ``71.4 %``."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then hours and minutes."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(time: float) -> str:
    """A time (seconds since 1970), e.g. ``2026-11-22 20:44:01 UTC``."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def with_interval(value: float, interval: Sequence[float]) -> str:
    """E.g. ``0.714 [0.690, 0.737]``."""
    low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
