"""ImageNet-1k (ILSVRC 2012) from what is published: archives, or folders that they were unpacked to."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from scipy.io import loadmat

from hpcfast.data.folder import folders_in
from hpcfast.datasets.sources import DAMAGES, Item, Source, extracted, images_in
from hpcfast.errors import UserError

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH, META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"


class Imagenet(Source):
    """Folders are linked to, archives copied, image by image, as they are.

    ``source`` holds ``train/`` with one folder a class, or its archive; and ``val/`` with one folder a class, or all
    validation images without classes, or their archive. The devkit, there too, says which classes those are of.
    """

    def items(self) -> Iterator[Item]:
        source = self.needed(f"the folder that holds {TRAIN} and {VAL}, or train/ and val/")
        # Validation first: what can be wrong shows before the long part.
        labels: dict[str, set[str]] = {"val": set(), "train": set()}
        for split, part in (("val", self._val(source)), ("train", _train(source))):
            for item in part:
                labels[split].add(item.label)
                yield item
        odd = sorted(labels["train"] ^ labels["val"])
        if odd:
            raise UserError(
                f"--source {source}: train has {len(labels['train'])} classes and val {len(labels['val'])}, only in "
                f"one of them {', '.join(odd[:5])}. Was an archive cut short? Fetch it again."
            )

    def _val(self, source: Path) -> Iterator[Item]:
        if classes := folders_in(f"{source}/val")[0]:
            yield from (Item("val", label, source / "val" / label) for label in classes)
            return
        images: Iterator[tuple[str, bytes | Path]]
        if (source / "val").is_dir():  # images as they are published: without classes
            images = ((name, source / "val" / name) for name in images_in(source / "val"))
        else:
            images = _members(_archive(source, VAL, "val/"))
        truth = self._truth(source)
        seen = 0
        for name, image in images:
            number = PurePosixPath(name).stem.rpartition("_")[2]
            if not number.isdecimal() or not 1 <= int(number) <= len(truth):
                raise UserError(f"--source {source}: {name} is none of the {len(truth)} validation images")
            seen += 1
            yield Item("val", truth[int(number) - 1], image, name)
        if seen != len(truth):
            raise UserError(
                f"--source {source}: {seen} validation images, {len(truth)} in the devkit; fetch {VAL} again"
            )

    def _truth(self, source: Path) -> list[str]:
        """WordNet ids of the validation images' classes, in the order of the images' numbers, from 1."""
        archive = f"{DEVKIT}.tar.gz"
        try:
            data = extracted(source, archive, DEVKIT, [TRUTH, META])
            synsets = loadmat(io.BytesIO(data[META]), squeeze_me=True)["synsets"]
            names = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
            return [names[int(number)] for number in data[TRUTH].split()]
        except (*DAMAGES, ValueError, IndexError, TypeError) as error:
            raise UserError(
                f"--source {source}: the validation images have no classes; {archive}, which has them, is missing "
                f"there or damaged ({type(error).__name__}: {error}). Put it there as published."
            ) from None


def _train(source: Path) -> Iterator[Item]:
    if classes := folders_in(f"{source}/train")[0]:
        yield from (Item("train", label, source / "train" / label) for label in classes)
        return
    archive = _archive(source, TRAIN, "train/ with one folder a class")
    for inner, data in _members(archive):  # an archive a class, of 140 MB
        for name, image in _members(archive, data):
            yield Item("train", PurePosixPath(inner).stem, image, name)


def _archive(source: Path, name: str, folder: str) -> Path:
    if not (source / name).is_file():
        raise UserError(f"--source {source}: neither {name} nor {folder} there")
    return source / name


def _members(archive: Path, inner: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """Names, without folders, and bytes of all files in an archive, or in one that lies in it."""
    try:
        with tarfile.open(archive, fileobj=None if inner is None else io.BytesIO(inner)) as tar:
            for member in tar:
                if file := tar.extractfile(member):
                    yield PurePosixPath(member.name).name, file.read()
    except DAMAGES as error:
        raise UserError(f"{archive} is damaged: {error}. Fetch it again.") from None
