"""Writes docs/reference/config.md from the schema of a configuration: ``python scripts/config_reference.py``."""

import json
from pathlib import Path
from typing import Any

from hpcfast.config import schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "config.md"
HEAD = """# Configuration keys

Every key of a configuration file, its default and the values it may have. `hpcfast config schema` prints the same as
JSON schemas. How files and `key=value` settings are merged: [configuration](../config.md).
Of the required keys `threat`, `data.path` and `model.name` must be given; the others have a recipe.

This page is written by `make docs`; the text is in the code.
"""
GROUPS = {
    "threat": "Threat", "data": "DataSettings", "model": "ModelSettings", "optim": "OptimSettings",
    "evaluation": "EvaluationSettings", "guard": "GuardSettings", "allreduce": "AllreduceSettings",
    "checkpoint": "CheckpointSettings",
}  # fmt: skip
"""Keys that hold a group of keys, and its name in the schema."""
ITEMS = {"phases": "Phase", "monitor, final and confirm": "Check"}
"""Groups that several keys or a list hold."""
LINKS = {
    "Phase": "phases", "Check": "monitor-final-and-confirm", "Attack": "attacks", "Schedule": "schedules",
    "Tracker": "trackers",
}  # fmt: skip
"""Where on the page a value that is a group is explained; that of GROUPS is under its own key."""

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def legal(key: dict[str, Any]) -> str:
    """The values that ``key``, a property of a JSON schema, may have."""
    if "anyOf" in key:
        return " or ".join(legal(each) for each in key["anyOf"])
    if "enum" in key or "const" in key:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in key.get("enum", [key.get("const")]))
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        anchor = LINKS.get(name) or next(group for group, cls in GROUPS.items() if cls == name)
        return f"[{name.removesuffix('Settings').lower()}](#{anchor})"
    if key["type"] == "array":
        pair = key.get("prefixItems")
        inner = f"pairs of ({', '.join(legal(each) for each in pair)})" if pair else legal(key["items"])
        return inner if "maxItems" in key else f"list of {inner}"
    if key["type"] in ("integer", "number"):
        bounds = [f"{sign} {key[bound]:g}" for bound, sign in BOUNDS.items() if bound in key]
        return " ".join([key["type"], " and ".join(bounds)]).strip()
    names = {"string": "text", "boolean": "`true`, `false`", "null": "`null`", "object": "mapping"}
    return "path" if key.get("format") == "path" else names[key["type"]]


def default(key: dict[str, Any], required: bool) -> str:
    """The default of ``key``, as it is written in a file."""
    if required:
        return "required"
    return f"`{json.dumps(key['default']).replace(chr(34), '')}`" if "default" in key else "`{}`"


def table(group: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """A row for each key of ``group``, a JSON schema of an object."""
    rows = ["| key | default | legal | |", "|---|---|---|---|"]
    for name, key in group["properties"].items():
        if name not in without:
            said = " ".join(key.get("description", "").replace("``", "`").split())
            rows.append(f"| `{name}` | {default(key, name in group.get('required', []))} | {legal(key)} | {said} |")
    return "\n".join(rows) if len(rows) > 2 else "No settings."


def section(title: str, group: dict[str, Any], level: int = 2, without: tuple[str, ...] = ()) -> str:
    """A heading, what the group is, and its table."""
    said = group["description"].replace("``", "`").replace("*", "×").strip()
    return f"{'#' * level} {title}\n\n{said}\n\n{table(group, without)}\n"


def page() -> str:
    """The page."""
    found = schema()
    run, groups = found["run"], found["run"]["$defs"]
    whole = table(run, tuple(GROUPS)).replace("`name` | required", "`name` | the file's name")  # which `load` fills in
    parts = [HEAD, f"## The run\n\n{whole}\n"]
    parts += [section(f"`{key}`", groups[cls]) for key, cls in GROUPS.items()]
    parts += [section(f"`{key}`" if key in run["properties"] else key, groups[cls]) for key, cls in ITEMS.items()]
    for kind in ("attacks", "schedules", "trackers"):
        parts.append(f"## {kind}\n\nThe key `name` chooses one; the other keys are its own.\n")
        parts += [section(f"`{name}`", cls, 3, ("name",)) for name, cls in found[kind].items()]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
