"""Folders that are repositories of the Hugging Face Hub, in timm's form, and their way there."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import timm
import torch
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data.resize import EVAL_CROP
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings

if TYPE_CHECKING:
    from hpcfast.export.formats import Logits

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""The files that timm and the Hub look for."""
FRONT = """\
---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- adversarial-robustness
- hpcfast
# license: which one is yours to say, e.g. apache-2.0
---
"""
"""What the Hub reads of a card."""


def configuration(config: RunConfig, classes: tuple[str, ...], model: nn.Module) -> str:
    """What ``config.json`` holds: how timm builds the network, and how it prepares images as evaluations here do."""
    net, data = model.get_submodule("net"), config.data
    own = getattr(net, "pretrained_cfg", {})
    photographs = data.augment == "resized_crop_flip"
    about = {
        "architecture": config.model.name,
        "num_classes": len(classes),
        "label_names": classes,
        "model_args": {"in_chans": data.channels, **config.model.options},
        "pretrained_cfg": {
            "tag": "hpcfast",
            "custom_load": False,
            "input_size": (data.channels, data.size, data.size),
            "fixed_input_size": own.get("fixed_input_size", False),
            "interpolation": "bilinear",
            "crop_pct": EVAL_CROP if photographs else 1.0,
            "crop_mode": "center" if photographs else "squash",
            "mean": config.model.mean,
            "std": config.model.std,
            "num_classes": len(classes),
            "pool_size": None,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
    }
    return json.dumps(about, indent=2) + "\n"


def read(path: Path, settings: ModelSettings) -> "Logits":
    """Load the folder that ``path`` is in as timm does."""
    net = timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval()
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    return lambda images: net((images - mean) / std)


def token(repository: str) -> str:
    """The user's token, for ``repository``; asked for before any work.

    Raises:
        UserError: there is none, or this is no name of a repository.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"--push-to {repository!a}: write OWNER/NAME, e.g. me/digits-robust")
    found = huggingface_hub.get_token()
    if found is None:
        raise UserError(
            f"--push-to {repository}: there is no token for the Hugging Face Hub; set HF_TOKEN or log in with "
            f"'hf auth login', or leave --push-to out"
        )
    return found


def push(folder: Path, repository: str, secret: str) -> str:
    """Upload the ``folder`` that was written; returns the address. A repository that is made for them is private.

    Raises:
        UserError: the Hub cannot be reached, or refuses.
    """
    api = huggingface_hub.HfApi(token=secret, library_name="hpcfast")
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[WEIGHTS, f"{WEIGHTS}.json", CONFIG, CARD],
            commit_message="A model trained by hpcfast",
        )
    except Exception as error:  # noqa: BLE001 - whatever the Hub's client and its HTTP library raise
        said = (str(error) or repr(error)).strip().partition("\n")[0]
        raise UserError(
            f"--push-to {repository}: {said}. The folder is whole; 'hf upload {repository} {folder}' pushes it"
        ) from None
    return str(address)
