"""What the classes of a file of weights are called, in the order of its logits.

Most files don't say. A list does (``--classes``), or what hpcfast wrote beside the file; else class folders that are
called by WordNet's ids say that the order is ImageNet's, and as many folders as classes that it is theirs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from timm.data import ImageNetInfo

from hpcfast.errors import UserError

IMAGENET = 1000


class ClassNames(NamedTuple):
    """Names in the order of the logits; who says so, for messages; and what a person should know, a sentence each."""

    names: tuple[str, ...]
    origin: str
    said: list[str]


def find(
    path: Path, count: int, beside: tuple[str, ...] | None, listed: Path | None, folders: Sequence[str]
) -> ClassNames:
    """Find the names of the ``count`` classes that the weights in ``path`` tell apart.

    Args:
        beside: what hpcfast wrote beside the file.
        listed: a text file, one name a line; before all else.
        folders: names of the class folders of the images, sorted.

    Raises:
        UserError: there are other names than ``count``, or no way to tell which class is which.
    """
    if listed is not None:
        return ClassNames(_counted(_read(listed), count, f"--classes {listed}", path), f"--classes {listed}", [])
    if beside is not None:
        origin = f"the model of {path}"
        return ClassNames(_counted(beside, count, f"the file beside {path}", path), origin, [])
    if count == IMAGENET and {*folders} <= {*(ids := ImageNetInfo().label_names())}:
        said = f"{path} does not name its {count} classes; read as ImageNet-1k's, as the class folders are"
        return ClassNames(tuple(ids), "ImageNet-1k", [said])
    if count == len(folders):
        said = f"{path} does not name its {count} classes; read as the class folders in alphabetical order, "
        return ClassNames(tuple(folders), str(path), [f"{said}as torchvision's ImageFolder numbers them"])
    raise UserError(
        f"{path} tells {count} classes apart and does not name them, the data have {len(folders)} "
        f"({', '.join(folders[:5])}{', …' if len(folders) > 5 else ''}); give --classes FILE, a text file with the "
        f"name of a class folder for each of the {count} classes, one a line, in the order of the network's outputs"
    )


def _read(listed: Path) -> tuple[str, ...]:
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {listed} cannot be read ({error}); give a text file, one class a line") from None
    return tuple(name for line in lines if (name := line.strip()))


def _counted(names: tuple[str, ...], count: int, origin: str, path: Path) -> tuple[str, ...]:
    if len(names) != count:
        raise UserError(
            f"{origin} names {len(names)} classes, but {path} tells {count} apart; "
            f"it must name each of those once, in the order of the network's outputs"
        )
    return names
