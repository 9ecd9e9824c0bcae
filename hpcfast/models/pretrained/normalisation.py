"""What images are normalised with before weights from elsewhere: given, found in the file or beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpcfast.errors import UserError
from hpcfast.models.pretrained.naming import Normalisation

Numbers = Sequence[float] | None

USUAL = (
    "usual are mean 0.485,0.456,0.406 and std 0.229,0.224,0.225 for ImageNet, mean 0.4914,0.4822,0.4465 and std "
    "0.2471,0.2435,0.2616 for CIFAR-10; 0 and 1 for each channel if the weights expect pixels as they are"
)


class Chosen(NamedTuple):
    """A mean and a standard deviation, one number a channel, pixels in [0,1]."""

    values: Normalisation
    origin: str
    """Where they are from, for messages."""
    said: list[str]
    """What a person should know, a sentence each."""


def choose(
    path: Path,
    given: tuple[Numbers, Numbers],
    found: dict[str, Normalisation],
    known: dict[str, Any],
    channels: int | None,
) -> Chosen:
    """Mean and standard deviation: those given, else the file's, else those beside it.

    Args:
        found: in the file, by what stands before their names.
        known: the model's settings as hpcfast wrote them beside the file; empty if it did not.
        channels: how many numbers there must be, if that is known.

    Raises:
        UserError: there are none, several in the file, or not one for each channel.
    """
    chosen = _choose(path, given, found, known)
    mean, std = chosen.values
    wanted = len(mean) if channels is None else channels
    if not len(mean) == len(std) == wanted:
        raise UserError(
            f"{chosen.origin}: mean {_shown(mean)} has {len(mean)} numbers, std {_shown(std)} has {len(std)}: "
            f"both need one for each of {wanted} channels"
        )
    return chosen


def _choose(
    path: Path, given: tuple[Numbers, Numbers], found: dict[str, Normalisation], known: dict[str, Any]
) -> Chosen:
    if (given[0] is None) != (given[1] is None):
        raise UserError(f"--mean and --std belong together; give both or neither ({USUAL})")
    if given[0] is not None and given[1] is not None:
        said = ["the file's own normalisation is not used: --mean and --std come first"] if found else []
        return Chosen((list(given[0]), list(given[1])), "--mean, --std", said)
    if found:
        values, *others = found.values()
        if any(other != values for other in others):
            names = ", ".join(f"'{head}'" for head in found)
            raise UserError(f"{path} normalises in several ways, in {names}; say how with --mean and --std")
        return Chosen(values, f"the normalisation in {path}", [f"normalisation from the file: {_both(values)}"])
    if known:
        values = list(known["mean"]), list(known["std"])
        return Chosen(values, f"the file beside {path}", [f"normalisation as written beside the file: {_both(values)}"])
    raise UserError(f"{path} does not say how images are normalised; give --mean and --std ({USUAL})")


def _both(values: Normalisation) -> str:
    return f"mean {_shown(values[0])}, std {_shown(values[1])}"


def _shown(values: list[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
