"""Restricted ImageNet (Tsipras et al. 2019, arXiv:1805.12152): nine super-classes of ImageNet's 1,000 classes."""

from collections.abc import Iterator

from hpcfast.data.folder import folders_in
from hpcfast.datasets.sources import Item, Source, images_in
from hpcfast.errors import UserError

CLASSES = 1000
RANGES = {
    "0-dog": (151, 268), "1-cat": (281, 285), "2-frog": (30, 32), "3-turtle": (33, 37), "4-bird": (80, 100),
    "5-monkey": (365, 382), "6-fish": (389, 397), "7-crab": (118, 121), "8-insect": (300, 319),
}  # fmt: skip
"""First and last place, both included, of a super-class among ImageNet's classes sorted by their WordNet ids."""


class RestrictedImagenet(Source):
    """Links into an ImageNet folder. The classes are of very different sizes: see the balanced accuracy."""

    def items(self) -> Iterator[Item]:
        source = self.needed("an ImageNet folder with train/ and val/, such as data/imagenet")
        classes = {split: folders_in(f"{source}/{split}")[0] for split in ("train", "val")}
        for split, found in classes.items():
            if len(found) != CLASSES or found != classes["train"]:
                raise UserError(
                    f"--source {source}: {split} has {len(found)} class folders; ImageNet has {CLASSES}, the same in "
                    f"train and val, and super-classes go by their order. Make it with 'hpcfast data prepare imagenet'."
                )
        for split, found in classes.items():
            for label, (first, last) in RANGES.items():
                for wnid in found[first : last + 1]:
                    for name in images_in(source / split / wnid):
                        unique = (name if name.startswith(wnid) else f"{wnid}_{name}").replace("/", "_")
                        yield Item(split, label, source / split / wnid / name, unique)
