"""Evaluations that are kept: in a folder of their own, so that one that was stopped goes on and none is made twice."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hpcfast.config import Check, RunConfig
from hpcfast.data.identity import Identity
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation import attacked, chosen_images, rounds
from hpcfast.evaluation.outcomes import Journal
from hpcfast.evaluation.results import summarise, table
from hpcfast.runs import files, lock

TAKEN = "is in use by another evaluation; wait for it"


@dataclass(frozen=True)
class Place:
    """The folder of one evaluation; its name says what was measured, its last part all that the result depends on."""

    path: Path

    @classmethod
    def of(cls, folder: Path, about: dict[str, Any]) -> "Place":
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        threat = about["threat"]
        return cls(folder / f"{about['check']['attack']['name']}-{threat['norm']}-{threat['eps']:g}-{digest[:8]}")

    @property
    def result(self) -> Path:
        """The numbers; written last, so that it says that the evaluation is complete."""
        return self.path / "result.json"

    @property
    def images(self) -> Path:
        """What became of each image."""
        return self.path / "images.csv"

    @property
    def adversarial(self) -> Path:
        return self.path / "adversarial"

    def read(self) -> dict[str, Any] | None:
        """The result, None while there is none."""
        return json.loads(self.result.read_text()) if self.result.is_file() else None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this block.

        Raises:
            UserError: it cannot be written, or another process is at it.
        """
        with lock.held(self.path, "evaluation", "give --out a folder you may write", TAKEN):
            yield


def depends_on(model: nn.Module, images: Identity, ids: np.ndarray, config: RunConfig, check: Check) -> dict[str, Any]:
    """All that a result depends on."""
    return {
        "weights": sha256(model.state_dict()),
        "network": config.model.model_dump(mode="json"),
        "images": images.digest,
        "ids": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        "data": config.data.model_dump(mode="json", include={"size", "channels", "augment"}),
        "check": check.model_dump(mode="json"),
        "threat": config.threat.model_dump(mode="json"),
        "seed": config.seed,
        "versions": {name: version(name) for name in ("hpcfast", "torch", "pyautoattack", "nvidia-dali-cuda130")},
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
) -> tuple[dict[str, Any], Place]:
    """Like :func:`hpcfast.evaluation.evaluate`, in a folder in ``folder``; a collective of all ranks.

    What was measured before is returned; what was begun before goes on after the last batch that was done.

    Args:
        images: what the images of ``split`` are.
        keep_images: save the images that fool the model; what was measured without is measured anew.
        overwrite: begin anew.

    Returns:
        The result, with the images' ``ids`` and with ``about``, all that it depends on; and its place.
    """
    ids = chosen_images(split, check, world)
    about = comm.on_root(lambda: depends_on(model, images, ids, config, check))
    place, started = Place.of(folder, about), time.perf_counter()
    with ExitStack() as held:
        comm.on_root(lambda: _claim(place, held))
        if overwrite or comm.on_root(lambda: keep_images and not place.adversarial.exists()):
            comm.on_root(lambda: _clear(place))
        if done := comm.on_root(place.read):
            return done, place
        if keep_images:
            comm.on_root(lambda: place.adversarial.mkdir(exist_ok=True))
        planned, journal = rounds(config, check, len(split.classes)), Journal(place.path, world.rank)
        kept = place.adversarial if keep_images else None
        outcomes = attacked(model, split, ids, planned, config, world, progress, journal, kept, say)
        result = summarise(outcomes, ids, planned, config, check, split)
        result |= {"seconds": time.perf_counter() - started, "world_size": world.size}
        result |= {"ids": outcomes.good(ids).tolist()}
        result |= {"masking": None, "about": about, "compared": images.basis}

        def finish() -> None:
            files.save_text(place.images, table(outcomes, ids, planned, split))
            write(place, result)
            journal.remove()

        comm.on_root(finish)
    return result, place


def write(place: Place, result: dict[str, Any]) -> None:
    """Write the numbers, all at once."""
    files.save_text(place.result, json.dumps(result) + "\n")


def _claim(place: Place, held: ExitStack) -> None:
    held.enter_context(place.claimed())


def _clear(place: Place) -> None:
    """Remove what an evaluation writes, and nothing else; the result first, for it vouches for the rest."""
    for file in (place.result, place.images):
        file.unlink(missing_ok=True)
    Journal(place.path, 0).remove()
    shutil.rmtree(place.adversarial, ignore_errors=True)


def sha256(weights: dict[str, Tensor]) -> str:
    """Of names and numbers, whatever device they are on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
