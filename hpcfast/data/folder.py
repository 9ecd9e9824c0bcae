"""Image folders: ``train/`` and ``val/``, in each one folder a class. What is in them, and in which order it is read.

Orders are functions of (seed, epoch) alone, not of the number of ranks, and are worked out here, in numpy, so
that DALI only reads what it is told to.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcfast.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Split:
    """The images of one split, sorted by class and name; an image's id is its place in this list."""

    root: Path
    files: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def some(self, images: int | None) -> "Split":
        """So many of the images, evenly spread; all for None."""
        ids = spread(len(self), images)
        return replace(self, files=[self.files[i] for i in ids], labels=self.labels[ids])


def read(root: Path) -> tuple[Split, Split]:
    """List the ``train`` and ``val`` splits under ``root``.

    Raises:
        UserError: a split is missing or has fewer than two classes, a class is empty, or the classes differ.
    """
    train, val = (read_split(root / name) for name in ("train", "val"))
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(
            f"{root}: train and val must have the same classes; only in one of them: {', '.join(odd[:5])}. "
            f"Add the missing class folders or remove the surplus ones."
        )
    return train, val


def read_split(root: Path, setting: str = "data.path") -> Split:
    """List the images in ``root``, which has one folder a class.

    Args:
        setting: what the user calls the place, for messages.

    Raises:
        UserError: ``root`` is missing or has fewer than two classes, or a class is empty.
    """
    if not root.is_dir():
        raise UserError(
            f"{setting}: no folder {root}. A data set is a folder with train/ and val/, in each one folder a "
            f"class; make one with 'hpcfast data prepare', or give another {setting}."
        )
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise UserError(
            f"{setting}: {root} has {len(classes)} class folders ({', '.join(classes) or 'none'}); "
            f"at least 2 are needed, one folder a class."
        )
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(str(f) for f in (root / name).iterdir() if f.suffix.lower() in SUFFIXES)
        if not found:
            raise UserError(
                f"{setting}: class folder {root / name} holds no image ({', '.join(SUFFIXES)}). "
                f"Put images there or remove the class everywhere."
            )
        files += found
        labels += [label] * len(found)
    return Split(root, files, np.array(labels), classes)


def train_order(
    n: int, seed: int, epoch: int, ranks: int, batch: int, done: int = 0, steps: int | None = None
) -> np.ndarray:
    """Ids in the order DALI must read them so that each global step takes the next images of one permutation.

    DALI gives rank r the r-th contiguous block of a list. What is left of the permutation of (seed, epoch) is cut
    to whole global batches and dealt out: in step s, rank r has its images ``s * ranks * batch + r * batch`` onwards.

    Args:
        n: images in the split.
        batch: images a rank and optimizer step; with accumulation, of all its micro batches.
        done: images of this epoch that were trained on already, by any number of ranks.
        steps: at most so many global batches; by default all that are left.

    Returns:
        Shape (steps * ranks * batch,), int64, no id twice; empty if less than a global batch is left.
    """
    rest = np.random.default_rng([seed, epoch]).permutation(n)[done:]
    whole = len(rest) // (ranks * batch)
    steps = whole if steps is None else min(steps, whole)
    return rest[: steps * ranks * batch].reshape(steps, ranks, batch).swapaxes(0, 1).reshape(-1)


def spread(n: int, images: int | None) -> np.ndarray:
    """Ids of ``images`` of ``n`` sorted images, evenly spaced so that every class has its share; all for None."""
    count = n if images is None else min(images, n)
    return np.arange(count) * n // count
