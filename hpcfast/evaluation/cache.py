"""Evaluations that are kept: in a folder of their own, so that one that was stopped goes on and none is made twice."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from hpcfast import foreign
from hpcfast.config import Check, RunConfig
from hpcfast.data import feed
from hpcfast.data.identity import Identity
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation import attacked, chosen_images, rounds
from hpcfast.evaluation.outcomes import Journal, summarise, table
from hpcfast.runs import files, lock, results

RESULT = "result.json"
"""The numbers; written last, so that it says that the evaluation is complete."""
IMAGES = "images.csv"
"""What became of each image."""
ADVERSARIAL = "adversarial"
LOOK = "masking"
"""What an unfinished look for masked gradients has found."""


def place_of(folder: Path, name: str, about: dict[str, Any]) -> Path:
    """A folder in ``folder`` for what ``name`` says; a digest after it says all that the result depends on."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:8]}"


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """Make the folder ``place`` and hold it for this block, or raise UserError; a collective of all ranks."""
    taken = "is in use by another evaluation; wait for it"
    ours = lock.held(place, "evaluation", "give --out a folder you may write", taken)
    with ExitStack() as held:
        comm.on_root(lambda: held.enter_context(ours))
        yield


def write(place: Path, result: dict[str, Any]) -> None:
    """Write the numbers, all at once."""
    files.save_text(place / RESULT, json.dumps(result) + "\n")


def _begin(place: Path, keep_images: bool, overwrite: bool) -> dict[str, Any] | None:
    """The result, if all that is wanted was measured before; what is to be measured anew is removed."""
    files.clean(place)
    if overwrite or (keep_images and not (place / ADVERSARIAL).exists()):
        for file in (RESULT, IMAGES):  # the result first, for it vouches for the rest
            (place / file).unlink(missing_ok=True)
        Journal(place, 0).remove()
        for folder in (ADVERSARIAL, LOOK):
            shutil.rmtree(place / folder, ignore_errors=True)
    if keep_images:
        (place / ADVERSARIAL).mkdir(exist_ok=True)
    cure = "remove it, and the same command measures again"
    return results.read(place / RESULT, results.Kept, cure) if (place / RESULT).is_file() else None


def depends_on(model: nn.Module, config: RunConfig, *packages: str) -> dict[str, Any]:
    """What any accuracy of ``model`` depends on, besides images and attacks; ``packages``: that play a part too."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "weights": digest.hexdigest(),
        "network": config.model.model_dump(mode="json"),
        "data": config.data.model_dump(mode="json", include={"size", "channels", "augment", "resident"}),
        **({"code": code} if (code := foreign.imported(config.dump())) else {}),
        "versions": {**{name: version(name) for name in ("hpcfast", "torch", *packages)}, **feed.versions()},
    }


def evaluate_cached(
    model: nn.Module,
    split: Split,
    images: Identity,
    config: RunConfig,
    check: Check,
    world: World,
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
    keep_images: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], Path]:
    """Like :func:`hpcfast.evaluation.evaluate`, in a folder in ``folder``; a collective of all ranks.

    What was measured before is returned; what was begun before goes on after the last batch that was done. To
    ``keep_images`` that fool the model, what was measured without is measured anew; to ``overwrite``, everything is.

    Returns:
        The result, with the images' ``ids`` and with ``about``, all that it depends on; and its folder.
    """
    ids = chosen_images(split, check, world)
    about = comm.on_root(lambda: depends_on(model, config, "pyautoattack")) | {
        "images": images.digest,
        "ids": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        "check": check.model_dump(mode="json"),
        "threat": config.threat.model_dump(mode="json"),
        "seed": config.seed,
    }
    name = f"{check.attack.name}-{config.threat.norm}-{config.threat.eps:g}"
    place, started = place_of(folder, name, about), time.perf_counter()
    with claimed(place):
        if done := comm.on_root(lambda: _begin(place, keep_images, overwrite)):
            return done, place
        planned, journal = rounds(config, check, len(split.classes)), Journal(place, world.rank)
        kept = place / ADVERSARIAL if keep_images else None
        outcomes = attacked(model, split, ids, planned, config, world, progress, journal, kept, say)
        result = summarise(outcomes, config, check) | {
            "seconds": time.perf_counter() - started,
            "world_size": world.size,
            "ids": outcomes.good.tolist(),
            "masking": None,
            "about": about,
            "compared": images.basis,
        }
        comm.on_root(lambda: files.save_text(place / IMAGES, table(outcomes)))
        comm.on_root(lambda: write(place, result))
        comm.on_root(journal.remove)
    return result, place
