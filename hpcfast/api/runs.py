"""``hpcfast.train`` and ``hpcfast.load``."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from hpcfast import config as configuration
from hpcfast import foreign
from hpcfast.api import ranks
from hpcfast.distributed import comm, launcher
from hpcfast.errors import UserError
from hpcfast.export import card
from hpcfast.models import pretrained, saved
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.reading import read_json
from hpcfast.training import train as training


class RobustModel(nn.Sequential):
    """A trained network, normalisation included: images (n, channels, size, size), pixels in [0,1], to logits."""

    classes: tuple[str, ...]
    """Names, in the order of the logits; empty where nobody has written them down."""
    card: dict[str, Any]
    """What the model is, its threat model, and what it reached (docs/export.md)."""


def load(path: str | Path, *, trust_code: bool = False) -> RobustModel:
    """Load a finished run's model, or a file that ``hpcfast export`` wrote, in eval mode on the CPU.

    Args:
        path: a run directory (``runs/NAME``), or the weights (.safetensors, or a state dict) beside their ``.json``.
        trust_code: run the code that the run names by import path, if it does. Nothing else in a file is executed.

    Raises:
        UserError: there is no model, the run is unfinished, its weights are damaged, or it names code.
    """
    with foreign.trusting(trust_code):
        return _load(Path(path))


def _load(place: Path) -> RobustModel:
    if not place.is_dir():
        model, notes = pretrained.load(place)
        beside = place.with_name(f"{place.name}.json")
        return _robust(model, notes.classes or (), read_json(beside) if beside.is_file() else {})
    run = RunDirectory(place)
    config = configuration.read_run(run)
    model, classes = saved.load(run, config.model)
    summary = run.read_summary()
    if summary is None:
        raise UserError(f"{run.path} is unfinished; resume it with 'hpcfast train {run.config}'")
    return _robust(model, classes, card.about(config, classes, summary, {"format": "run"}))


def _robust(model: nn.Module, classes: tuple[str, ...], about: dict[str, Any]) -> RobustModel:
    found = RobustModel(OrderedDict(model.named_children())).eval()
    found.classes, found.card = classes, about
    return found


@foreign.trusting()
def train(
    config: str | Path | Mapping[str, Any], *, overwrite: bool = False, accept_data: bool = False, **settings: Any
) -> dict[str, Any]:
    """Train, as ``hpcfast train`` does; the same call resumes what was stopped. A collective of all ranks.

    Args:
        config: a YAML file, such as ``configs/digits_l2.yaml``, or the same as nested dicts, with a ``name``.
        overwrite: delete an earlier run of this name.
        accept_data: resume although the data have changed.
        settings: to change, e.g. ``epochs=5, optim={"lr": 0.05}``, or ``**{"optim.lr": 0.05}``.

    Returns:
        The run's summary, as in its ``summary.json`` (docs/run-directory.md).

    Raises:
        UserError: settings or data are wrong, or training has diverged.
        Stopped: a signal asked for it; a checkpoint is saved.
    """
    launcher.prepare()
    changes = [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]
    read: Callable[[], configuration.RunConfig]
    if isinstance(config, Mapping):
        read = partial(configuration.parse, dict(config), changes, "config")
        setting = str({**config, **settings}.get("engine", "auto"))
    else:
        read = partial(configuration.load, Path(config), changes)
        setting = configuration.engine(Path(config), changes)
    world = ranks.world(setting)
    return training.train(comm.raise_on_all_ranks(read), world, overwrite, accept_data=accept_data)
