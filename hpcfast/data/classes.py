"""Which class of a network an image's class folder means: by name, never by the folder's place in a sorted list."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hpcfast.data.split import Split
from hpcfast.errors import UserError


def match(split: Split, names: Sequence[str], origin: str) -> tuple[Split, list[str]]:
    """Number the classes of ``split`` as a network does; the images and their ids stay as they are.

    Args:
        names: of all classes that the network tells apart, in the order of its logits.
        origin: where the names are from, for messages.

    Returns:
        The split with ``classes=names`` and int64 labels; and what a person should know, a sentence each.

    Raises:
        UserError: the network does not know a class of the images, or two of ``names`` are the same.
    """
    place = {name: number for number, name in enumerate(names)}
    if len(place) < len(names):
        twice = next(name for number, name in enumerate(names) if place[name] != number)
        raise UserError(f"{origin} names the class '{twice}' twice; every class needs a name of its own")
    if odd := [name for name in split.classes if name not in place]:
        raise UserError(
            f"{split.root}: {origin} does not know {len(odd)} of its {len(split.classes)} classes: {_some(odd)}; "
            f"it knows {len(names)}: {_some(names)}. "
            f"Give images of those classes, or rename the class folders as the network's classes are called"
        )
    numbers = np.array([place[name] for name in split.classes], np.int64)
    said = []
    if len(numbers) < len(names):
        said.append(f"the data have {len(numbers)} of the model's {len(names)} classes")
    if (np.diff(numbers) < 0).any():
        said.append("the model has the classes in another order than the data; they are matched by name")
    return replace(split, classes=tuple(names), labels=numbers[split.labels]), said


def _some(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(f"'{name}'" for name in names[:shown]) + (", …" if len(names) > shown else "")
