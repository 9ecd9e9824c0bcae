"""Validation images that are trained on, too: the accuracy on them is no accuracy on new images.

A look at some of them, at the start of every run; ``hpcfast data verify`` looks at all.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from hpcfast.data.identity import content_digest, sampled
from hpcfast.data.readahead import READERS
from hpcfast.data.split import Split

MOST = 10_000
"""Training images that are read for it."""


class Overlap(NamedTuple):
    """What was found."""

    looked_at: int
    """Validation images."""
    names: list[str]
    """Those of them whose bytes are also those of a training image."""

    def sentence(self, val: Split) -> str:
        """It in words."""
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return (
            f"{val.root}: {len(self.names):,} of {self.looked_at:,} images looked at are among the training images, "
            f"too ({self.names[0]}{more}): accuracy on them says nothing; 'hpcfast data verify' names all"
        )


def overlap(train: Split, val: Split) -> Overlap:
    """Compare some images of ``val``, drawn by seed, with those of ``train`` that have as many bytes."""
    sizes = train.stats[:, 0]
    order = np.argsort(sizes, kind="stable")
    rising = sizes[order]
    chosen: list[int] = []
    twins: set[int] = set()
    for image in sampled(len(val)).tolist():
        size = val.stats[image, 0]
        alike = order[slice(*np.searchsorted(rising, [size, size + 1]))]
        if len(twins) + len(alike) > MOST:
            break  # so many of a size that bytes would have to be read for minutes
        chosen.append(image)
        twins.update(alike.tolist())
    with ThreadPoolExecutor(READERS) as pool:
        known = {*pool.map(lambda i: content_digest(train, i), sorted(twins))} - {None}
        contents = pool.map(lambda i: content_digest(val, i), chosen)
        common = [i for i, content in zip(chosen, contents, strict=True) if content in known]
    return Overlap(len(chosen), val.at(np.array(common, np.int64)).names())
