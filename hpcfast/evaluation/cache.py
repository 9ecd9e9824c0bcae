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

from torch import nn

from hpcfast.config import Check, RunConfig
from hpcfast.data.identity import Identity
from hpcfast.data.split import Split
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation import attacked, chosen_images, rounds
from hpcfast.evaluation.outcomes import Journal
from hpcfast.evaluation.results import summarise, table
from hpcfast.runs import files, lock


@dataclass(frozen=True)
class Place:
    """The folder of one evaluation."""

    path: Path

    @classmethod
    def of(cls, folder: Path, name: str, about: dict[str, Any]) -> "Place":
        """``name`` says what is measured; a digest after it all that the result depends on."""
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return cls(folder / f"{name}-{digest[:8]}")

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

    @property
    def look(self) -> Path:
        """What an unfinished look for masked gradients has found."""
        return self.path / "masking"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this block; a collective of all ranks.

        Raises:
            UserError: it cannot be written, or another process is at it.
        """
        taken = "is in use by another evaluation; wait for it"
        ours = lock.held(self.path, "evaluation", "give --out a folder you may write", taken)
        with ExitStack() as held:
            comm.on_root(lambda: held.enter_context(ours))
            yield

    def read(self) -> dict[str, Any] | None:
        """The result, None while there is none."""
        return json.loads(self.result.read_text()) if self.result.is_file() else None

    def write(self, result: dict[str, Any]) -> None:
        files.save_text(self.result, json.dumps(result) + "\n")

    def clear(self) -> None:
        """Remove what an evaluation writes, and nothing else; the result first, for it vouches for the rest."""
        for file in (self.result, self.images):
            file.unlink(missing_ok=True)
        Journal(self.path, 0).remove()
        for folder in (self.adversarial, self.look):
            shutil.rmtree(folder, ignore_errors=True)


def depends_on(model: nn.Module, config: RunConfig, *packages: str) -> dict[str, Any]:
    """What any accuracy of ``model`` depends on, besides images and attacks; ``packages``: that play a part too."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "weights": digest.hexdigest(),
        "network": config.model.model_dump(mode="json"),
        "data": config.data.model_dump(mode="json", include={"size", "channels", "augment"}),
        "versions": {name: version(name) for name in ("hpcfast", "torch", "nvidia-dali-cuda130", *packages)},
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
    about = comm.on_root(lambda: depends_on(model, config, "pyautoattack")) | {
        "images": images.digest,
        "ids": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        "check": check.model_dump(mode="json"),
        "threat": config.threat.model_dump(mode="json"),
        "seed": config.seed,
    }
    name = f"{check.attack.name}-{config.threat.norm}-{config.threat.eps:g}"
    place, started = Place.of(folder, name, about), time.perf_counter()

    def begin() -> dict[str, Any] | None:
        if overwrite or (keep_images and not place.adversarial.exists()):
            place.clear()
        if keep_images:
            place.adversarial.mkdir(exist_ok=True)
        return place.read()

    def finish() -> None:
        files.save_text(place.images, table(outcomes))
        place.write(result)
        journal.remove()

    with place.claimed():
        if done := comm.on_root(begin):
            return done, place
        planned, journal = rounds(config, check, len(split.classes)), Journal(place.path, world.rank)
        kept = place.adversarial if keep_images else None
        outcomes = attacked(model, split, ids, planned, config, world, progress, journal, kept, say)
        result = summarise(outcomes, config, check) | {
            "seconds": time.perf_counter() - started,
            "world_size": world.size,
            "ids": outcomes.good.tolist(),
            "masking": None,
            "about": about,
            "compared": images.basis,
        }
        comm.on_root(finish)
    return result, place
