"""scikit-learn's 1,797 handwritten digits: small enough to come with the package."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hpcfast.datasets.sources import Item, Source

SIZE = 28
VALIDATION = 360


class Digits(Source):
    """8x8 grey images, enlarged to 28x28; a fixed stratified split of 1,437 and 360."""

    def items(self) -> Iterator[Item]:
        images, labels = load_digits(return_X_y=True)
        everything = np.arange(len(labels))
        parts = train_test_split(everything, test_size=VALIDATION, stratify=labels, random_state=0)
        for split, ids in zip(("train", "val"), parts, strict=True):
            for i in sorted(ids):
                grey = np.rint(images[i].reshape(8, 8) * 255 / 16).astype(np.uint8)
                yield Item(split, str(labels[i]), Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
