"""What images are normalised with before weights from elsewhere: given, found in the file or beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcfast.errors import UserError
from hpcfast.models.pretrained.layouts import Normalisation

Numbers = Sequence[float] | None

USUAL = (
    "usual are mean 0.485,0.456,0.406 and std 0.229,0.224,0.225 for ImageNet, mean 0.4914,0.4822,0.4465 and std "
    "0.2471,0.2435,0.2616 for CIFAR-10; 0 and 1 for each channel if the weights expect pixels as they are"
)


def choose(
    path: Path, given: tuple[Numbers, Numbers], found: dict[str, Normalisation], known: dict[str, Any]
) -> tuple[Normalisation, str, list[str]]:
    """Mean and standard deviation: those given, else the file's, else those beside it.

    Args:
        found: in the file, by what stands before their names.
        known: the model's settings as hpcfast wrote them beside the file; empty if it did not.

    Returns:
        One number a channel each, pixels in [0,1]; where they are from, for messages; and what a person should know.

    Raises:
        UserError: there are none, several in the file, or not as many of one as of the other.
    """
    if (given[0] is None) != (given[1] is None):
        raise UserError(f"--mean and --std belong together; give both or neither ({USUAL})")
    said = []
    if given[0] is not None and given[1] is not None:
        mean, std, origin = list(given[0]), list(given[1]), "--mean, --std"
        if found:
            said = ["the file's own normalisation is not used: --mean and --std come first"]
    elif found:
        (mean, std), *others = found.values()
        if any(other != (mean, std) for other in others):
            names = ", ".join(f"'{head}'" for head in found)
            raise UserError(f"{path} normalises in several ways, in {names}; say how with --mean and --std")
        origin = f"the normalisation in {path}"
        said = [f"normalisation from the file: mean {_shown(mean)}, std {_shown(std)}"]
    elif known:
        mean, std, origin = list(known["mean"]), list(known["std"]), f"the file beside {path}"
        said = [f"normalisation as written beside the file: mean {_shown(mean)}, std {_shown(std)}"]
    else:
        raise UserError(f"{path} does not say how images are normalised; give --mean and --std ({USUAL})")
    if len(mean) != len(std):
        raise UserError(
            f"{origin}: mean {_shown(mean)} has {len(mean)} numbers, std {_shown(std)} has {len(std)}: "
            f"both need one for each channel"
        )
    return (mean, std), origin, said


def _shown(values: list[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
