"""What accompanies an exported file: a card for people (Markdown), and the same for programs (JSON)."""

import re
from pathlib import Path
from typing import Any

import timm
import yaml

from hpcfast.config import RunConfig
from hpcfast.export import hub
from hpcfast.export.formats import FORMATS, python
from hpcfast.runs.names import in_markdown


def about(
    config: RunConfig, classes: tuple[str, ...], summary: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    """The contents of ``FILE.json``; for RobustBench its own keys, and ours under ``hpcfast``.

    Args:
        summary: of the run.
        result: of the export (:func:`hpcfast.export.publish`).
    """
    ours = {
        "model": config.model.model_dump(mode="json"),
        "classes": classes,
        "input": {"channels": config.data.channels, "size": config.data.size, "range": [0, 1]},
        "threat": {key: summary[key] for key in ("norm", "eps")},
        "reached": {key: summary[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack")},
        "file": {key: value for key, value in result.items() if key not in ("path", "card", "about")},
        "versions": summary["versions"],
    }
    return {**_robustbench(summary), "hpcfast": ours} if result["format"] == "robustbench" else ours


def _robustbench(summary: dict[str, Any]) -> dict[str, Any]:
    """The keys of RobustBench's ``model_info/DATASET/THREAT/NAME.json``; accuracies are per cent, as text.

    ``autoattack_acc`` is among them only if AutoAttack's standard version measured it.
    """
    steps = summary["eps"] * 255
    fraction = summary["norm"] == "Linf" and abs(steps - round(steps)) < 1e-6
    attack, robust = summary["attack"], f"{100 * summary['robust_accuracy']:.2f}"
    standard = attack["name"] == "autoattack" and attack.get("version") == "standard"
    return {
        **dict.fromkeys(("link", "name", "authors", "venue"), ""),
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": summary["dataset"],
        "architecture": summary["model"],
        "eps": f"{round(steps)}/255" if fraction else f"{summary['eps']:g}",
        "clean_acc": f"{100 * summary['clean_accuracy']:.2f}",
        "reported": robust,
        **({"autoattack_acc": robust} if standard else {}),
        "footnote": f"Reported by hpcfast under {_words(attack)}, on {summary['n_eval']} images.",
    }


def markdown(
    out: Path, config: RunConfig, classes: tuple[str, ...], summary: dict[str, Any], result: dict[str, Any]
) -> str:
    """The contents of the card: what the file is, what it reached, how it was made, how to load it."""
    data, model, form = config.data, config.model, FORMATS[result["format"]]
    values = config.model_dump(mode="json")
    values["data"]["path"] = data.path.name  # without the folders of the one who trained
    del values["runs"], values["data"]["stage"], values["trackers"]
    names = in_markdown(", ".join(classes[:20])) + (", …" if len(classes) > 20 else "")
    colours = "grey" if data.channels == 1 else "RGB"
    about = yaml.safe_dump(values, sort_keys=False)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", about) or [""]))
    return f"""{hub.FRONT if form.folder else ""}# {in_markdown(out.name)}

{form.describe}

- **Network:** {model.name}{f" with {_words(model.options)}" if model.options else ""} (timm {timm.__version__})
- **Input:** images (n, {data.channels}, {data.size}, {data.size}), {colours}, float32, pixels in [0,1]
- **Normalisation:** mean {_list(model.mean)}, standard deviation {_list(model.std)}
- **Output:** logits (n, {len(classes)}) of the classes {names}
- **Threat model:** {summary["norm"]}, eps {summary["eps"]:.4g} (pixels in [0,1])
- **Data:** {in_markdown(summary["dataset"])}
- **SHA-256:** `{result["sha256"]}` ({result["bytes"]:,} bytes)

## Numbers

| | accuracy | 95 % interval | images |
|---|---|---|---|
{_row("clean", summary, "clean_accuracy")}
{_row(f"robust: under {_words(summary['attack'])}", summary, "robust_accuracy")}

Loaded again, its logits (of images of noise) differ from the trained model's by at most \
{result["largest_difference"]:.2g}.
An accuracy under one attack is an upper bound of what a better attack would leave.

## How it was trained

By hpcfast {summary["versions"]["hpcfast"]} with {summary["method"]["name"]}, {summary["epochs"]:g} epochs on \
{summary["world_size"]} ranks, {summary["precision"]}, seed {summary["seed"]}, {summary["train_seconds"]:,.0f} s on \
{in_markdown(summary["device"])} ({_words({k: v for k, v in summary["versions"].items() if k != "hpcfast"})}).

{fence}yaml
{about}{fence}

## How to load it

```python
{python(form, out.name, model, len(classes))}```
{form.after}"""


def _row(what: str, numbers: dict[str, Any], key: str) -> str:
    low, high = numbers["ci95"][key]
    return f"| {what} | {numbers[key]:.4f} | {low:.4f} to {high:.4f} | {numbers['n_eval']:,} |"


def _words(values: dict[str, Any]) -> str:
    return in_markdown(
        ", ".join(f"{v}" if key == "name" else f"{key} {v}" for key, v in values.items() if v is not None)
    )


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
