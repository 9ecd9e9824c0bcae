"""What ``hpcfast eval`` measures: a finished run, or weights from elsewhere."""

from pathlib import Path
from typing import Any

from hpcfast import export, foreign
from hpcfast.config import load, parse
from hpcfast.data import folder, listing
from hpcfast.errors import UserError
from hpcfast.evaluate.session import Subject
from hpcfast.rundir import RunDirectory


def of_run(run: Path, changes: list[str], out: Path | None) -> Subject:
    """A finished run, on its own validation images.

    Raises:
        UserError: there is none, or a setting is wrong.
    """
    directory = RunDirectory(run)
    directory.read_config()
    config = load(directory.config, changes)
    model, _ = export.load(directory, config)
    split = folder.read(config.data.path, config.data.skips)[1]
    return Subject(config, model, split, out or directory.evaluations, listing.remark(split.root, split.unread))


def of_weights(
    weights: Path, arch: str | None, mean: str | None, std: str | None, data: Path | None, size: int | None,
    changes: list[str], out: Path | None,
) -> Subject:  # fmt: skip
    """Weights from elsewhere, on the validation images in ``data``.

    Raises:
        UserError: something is missing or wrong; the message says what to give.
    """
    eps = next((change for change in changes if change.startswith("threat.eps=")), None)
    for option, value, example in (("data", data, "data/cifar10"), ("size", size, "32"), ("eps", eps, "8/255")):
        if value is None:
            raise UserError(f"--weights {weights}: --{option} is missing, e.g. --{option} {example}")
    split = folder.read(Path(str(data)))[1]
    normalisation = _numbers("--mean", mean), _numbers("--std", std)
    model, notes = foreign.load(weights, arch, len(split.classes), *normalisation)
    attack = {"attack": {"name": "autoattack"}}
    values: dict[str, Any] = {
        "name": weights.stem,
        "threat": {"norm": "Linf"},
        "data": {"path": str(data), "size": size, "channels": len(notes.mean), "batch_size": 1},
        "model": notes.model.model_dump(mode="json"),
        "attack": {"name": "natural"},
        "epochs": 1,
        "optim": {"lr": 1.0, "lr_batch": 1},
        "schedule": {"name": "cosine"},
        "evaluation": {"monitor": attack, "final": attack},
    }
    config = parse(values, changes, f"--weights {weights}")
    said = [*notes.said, *listing.remark(split.root, split.unread)]
    return Subject(config, model, split, out or Path("evaluations") / weights.stem, said)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: give a number a channel, e.g. {option} 0.5,0.5,0.5") from None
