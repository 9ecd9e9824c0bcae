"""What a configuration need not say: beside ``threat``, ``data.path`` and ``model.name`` it has a recipe."""

from typing import Any

import timm

SMALL = 32
"""Image side where the network doesn't say one."""
COLOUR = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
GREY = {"mean": [0.5], "std": [0.25]}
"""Of ImageNet's pixels, and of about any grey ones."""
RECIPE: dict[str, Any] = {
    "attack": {"name": "nfgsm"},
    "optim": {"lr": 0.1, "lr_batch": 128},
    "schedule": {"name": "piecewise", "knots": [[0, 0], ["30%", 1], ["100%", 0]]},
}
EPOCHS = 30
EVALUATION: dict[str, Any] = {
    "monitor": {"attack": {"name": "pgd", "steps": 20}, "images": 500},
    "final": {"attack": {"name": "apgd"}, "images": 1000},
}


def fill(values: dict[str, Any]) -> dict[str, Any]:
    """``values``, the nested settings of a run, with those that are required and that nobody gave."""
    filled = RECIPE | values
    if isinstance(optim := values.get("optim"), dict):
        filled["optim"] = RECIPE["optim"] | optim
    if not ({"epochs", "steps", "images", "phases"} & values.keys()):
        filled["epochs"] = EPOCHS
    if isinstance(evaluation := values.get("evaluation", {}), dict):
        checks = {key: _check(evaluation.get(key, {}), default) for key, default in EVALUATION.items()}
        filled["evaluation"] = evaluation | checks
    data, model = values.get("data"), values.get("model")
    if isinstance(data, dict) and isinstance(model, dict):
        filled["model"] = (GREY if data.get("channels") == 1 else COLOUR) | model
        filled["data"] = {"size": _side(str(model.get("name")))} | {"batch_size": 64} | data
    return filled


def _check(given: Any, default: dict[str, Any]) -> Any:
    """A check that says its attack is whole: how many images it takes then, its settings say."""
    return default | given if isinstance(given, dict) and "attack" not in given else given


def _side(network: str) -> int:
    """The side of the images that timm's weights of a network are for; ``SMALL`` where there are none."""
    known = timm.models.get_pretrained_cfg(network) if timm.models.is_model(network) else None
    return int(known.input_size[-1]) if known and known.has_weights else SMALL
