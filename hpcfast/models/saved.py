"""A trained model on disk: its weights (safetensors), and what they are (``model.json``)."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from hpcfast import models
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.runs import files
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.reading import read_json


def write(run: RunDirectory, model: nn.Module, about: dict[str, Any]) -> None:
    """Write the weights of ``model`` and what they are."""
    save_weights(run.weights, model.state_dict())
    files.save_text(run.model, json.dumps(about, indent=1) + "\n")


def load(run: RunDirectory, settings: ModelSettings) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a finished run's model, in eval mode on the CPU, and its class names.

    Raises:
        UserError: the run is unfinished, or its weights are damaged, another model's or not finite numbers.
    """
    weights = load_weights(run.weights)
    try:
        classes = tuple(read_json(run.model)["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run.model} is missing or damaged ({error!r}); train the run again") from None
    if odd := models.not_finite(weights):
        raise UserError(f"{run.weights}: {odd}; training diverged, and no number of this model would mean anything")
    model = settings.build(len(classes)).eval()
    models.load_weights(model, weights, str(run.weights))
    return model, classes


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write ``weights`` as safetensors, for all to read (``save_file`` would keep them from colleagues)."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    files.write_atomically(path, lambda part: part.write_bytes(to_bytes(contiguous)))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing or is none.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"no weights {path}: finish the run first with 'hpcfast train'") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is no readable safetensors file ({error}); train the run again") from None
