"""What ``hpcfast eval --weights`` finds, image by image."""

import csv
from pathlib import Path
from typing import NamedTuple

from hpcfast.data.identity import identify
from hpcfast.distributed.comm import World
from hpcfast.evaluation import session
from hpcfast.evaluation.cache import evaluate_cached
from hpcfast.evaluation.session import Subject
from tests.real.networks import Case


class Found(NamedTuple):
    """Of each image."""

    files: list[Path]
    truth: list[int]
    clean: list[int]
    attacked: list[int]
    """What it is taken for in the end; of one that was misclassified at once, that."""

    @property
    def held(self) -> list[bool]:
        return [truth == taken for truth, taken in zip(self.truth, self.attacked, strict=True)]


def chosen(case: Case, *settings: str) -> Subject:
    """The subject of ``hpcfast eval --weights`` with the case's options."""
    mean, std = (",".join(map(str, values)) for values in (case.mean, case.std))
    given = session.Elsewhere(None, case.arch, mean, std, None, case.data, case.size)
    return session.of_weights(case.weights, given, ["threat.eps=1/255", "evaluation.batch_size=50", *settings], None)


def measured(case: Case, world: World, folder: Path, *settings: str) -> Found:
    """All but the printing and the look for masked gradients, which are of no interest here."""
    what = chosen(case, *settings)
    _, place = evaluate_cached(
        what.model, what.split, identify(what.split), what.config, what.config.evaluation.final, world, folder
    )
    rows = list(csv.DictReader((place / "images.csv").open()))
    number = {name: index for index, name in enumerate(what.split.classes)}
    files = [Path(row["file"]) for row in rows]
    assert [row["class"] for row in rows] == [file.parent.name for file in files]
    return Found(files, *([number[row[key]] for row in rows] for key in ("class", "clean", "attacked")))
