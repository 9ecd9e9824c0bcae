"""The data of a run: what it trains on, what it watches itself on, what it is judged on, and what all that is.

The monitor, which may end a training at its target, and the guard look at images that are held out of training.
``final`` and ``confirm`` look at validation images, which decide nothing before: a maximum that was picked on the
images that judge it would be too high.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcfast.data import DataSettings, folder
from hpcfast.data.identity import Identity, agreed, content_digest, sampled
from hpcfast.data.readahead import READERS
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split, spread
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

HELD_OUT = 1000
"""Images held out by default, but at most a tenth of the training images."""
MOST_COMPARED = 10_000
"""Training images that are read to find validation images among them."""


@dataclass(frozen=True)
class Dataset:
    """Three splits without a common image, and what the two on disk are."""

    train: Split
    held_out: Split
    val: Split
    identities: dict[str, Identity]
    """Of the splits as they are on disk: ``train`` (with what is held out of it) and ``val``."""
    remarks: list[str]
    """What a person should know before they believe a number."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of the data."""
        return {name: asdict(identity) for name, identity in self.identities.items()}

    def compare(self, before: dict[str, Any] | None, run: Path, accept: bool, moved: bool) -> str:
        """What to say before ``run`` resumes from a checkpoint that saw the data ``before``; nothing if it was these.

        Raises:
            UserError: they have changed (or ``moved``, where the checkpoint is of an hpcfast that noted none) and
                that is not accepted, or their classes have, which nobody can accept.
        """
        if before is None:
            said = f"{run} was begun by an hpcfast that did not note its data: nobody can tell whether these are they"
            if moved and not accept:
                raise UserError(
                    f"{said}. Give the data.path in its config.yaml, continue with these by --accept-data, or give "
                    f"another name="
                )
            return f"{said}, and the images that its monitor and guard look at from now on were trained on until now"
        known = {name: Identity(**state) for name, state in before.items()}
        changes = "; ".join(
            f"{name}: {change}" for name, then in known.items() for change in then.differences(self.identities[name])
        )
        if not changes:
            return ""
        said = f"the data have changed since the last checkpoint of {run}: {changes}"
        if [*known["train"].classes] != [*self.identities["train"].classes]:
            raise UserError(f"{said}. Labels would mean other classes: put the classes back, or give another name=")
        if not accept:
            raise UserError(f"{said}. Put the data back, continue with these by --accept-data, or give another name=")
        return f"{said}; accepted"

    def compare_finished(self, before: dict[str, Any] | None, run: Path) -> None:
        """UserError unless the finished ``run`` rests on these data, going by what its :meth:`summary` said ``before``.

        None: it is of an hpcfast that noted nothing.
        """
        if before is None:
            return
        now = self.summary()
        changes = [
            f"{name}: {now['images'][name]:,} images instead of {before['images'][name]:,} others"
            for name, digest in before["digests"].items()
            if digest != now["digests"][name]
        ]
        if changes:
            raise UserError(
                f"{run} is finished, with other images than those in data.path={self.val.root.parent} ("
                f"{'; '.join(changes)}). Put the data back, or give another name= to train on these"
            )

    def summary(self) -> dict[str, Any]:
        """What numbers rest on, for ``summary.json``."""
        images = {"train": len(self.train), "held_out": len(self.held_out), "val": len(self.val)}
        return {
            "images": images,
            "digests": {name: identity.digest for name, identity in self.identities.items()},
            "compared": {name: identity.basis for name, identity in self.identities.items()},
            "measured_on": {"monitor": "held_out", "guard": "held_out", "final": "val", "confirm": "val"},
        }


def read(settings: DataSettings, world: World, copy: Path | None = None) -> Dataset:
    """Read the data that ``settings`` name, or on this rank a ``copy`` of that pack; a collective of all ranks.

    Raises:
        UserError: on all ranks: they are missing on one, have no two classes, or are not the same on all hosts.
    """
    train, val = comm.raise_on_all_ranks(lambda: read_splits(settings.path, settings.skips, copy))
    identities = dict(zip(("train", "val"), agreed((train, val), world), strict=True))
    rest, held_out = hold_out(train, settings.held_out)
    remarks = [*folder.remark(train), *folder.remark(val), *comm.on_root(lambda: overlap(train, val))]
    return Dataset(rest.some(settings.images), held_out, val, identities, remarks)


def hold_out(train: Split, images: int | None) -> tuple[Split, Split]:
    """Divide ``train``: what is left of it, and ``images`` of it, evenly spread; UserError if nothing would be left."""
    if images is not None and images >= len(train):
        raise UserError(
            f"data.held_out: {images} of the {len(train)} images in {train.root} would leave none to train on; "
            f"give fewer"
        )
    held = spread(len(train), usually_held(len(train)) if images is None else images)
    return train.at(np.setdiff1d(np.arange(len(train)), held)), train.at(held)


def usually_held(images: int) -> int:
    """How many of so many training images are held out where nobody says."""
    return min(HELD_OUT, images // 10)


def overlap(train: Split, val: Split) -> list[str]:
    """What to say where validation images are trained on, too: accuracy on them is no accuracy on new images.

    Compares some images of ``val``, drawn by seed, with those of ``train`` that have as many bytes; ``hpcfast data
    verify`` compares all.
    """
    sizes = train.stats[:, 0]
    order = np.argsort(sizes, kind="stable")
    rising = sizes[order]
    chosen: list[int] = []
    twins: set[int] = set()
    for image in sampled(len(val)).tolist():
        size = val.stats[image, 0]
        alike = order[slice(*np.searchsorted(rising, [size, size + 1]))]
        if len(twins) + len(alike) > MOST_COMPARED:
            break  # so many of a size that bytes would have to be read for minutes
        chosen.append(image)
        twins.update(alike.tolist())
    with ThreadPoolExecutor(READERS) as pool:
        known = {*pool.map(lambda i: content_digest(train, i), sorted(twins))} - {None}
        contents = pool.map(lambda i: content_digest(val, i), chosen)
        common = [i for i, content in zip(chosen, contents, strict=True) if content in known]
    if not common:
        return []
    more = f" and {len(common) - 1} more" if len(common) > 1 else ""
    return [
        f"{val.root}: {len(common):,} of {len(chosen):,} images looked at are among the training images, "
        f"too ({val.names()[common[0]]}{more}): accuracy on them says nothing; 'hpcfast data verify' names all"
    ]
