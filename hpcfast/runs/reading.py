"""JSON and YAML that a disk, a kill or a hand may have spoilt: it is read, or a ValueError says what is wrong with it.

Parsers raise more than that of odd text: RecursionError where it nests deeply, KeyError, AttributeError and others.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


def loads(text: str | bytes) -> Any:
    """What a JSON text says; ValueError if it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def read_json(path: Path) -> Any:
    """What a JSON file says; ValueError if it is none, OSError if it cannot be read."""
    return loads(path.read_text())


def read_yaml(path: Path, load: Callable[[str], Any] | None = None) -> Any:
    """What a YAML file says; ValueError if it is none, OSError if it cannot be read.

    Args:
        load: makes it of the text, and refuses aliases that unfold without end; by default any alias is refused.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return (load or _plain)(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except Exception as error:  # noqa: BLE001 - of an odd tag PyYAML raises whatever it runs into
        raise ValueError(str(error) or repr(error)) from None


def _plain(text: str) -> Any:
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise ValueError("it has an alias (*name); write out what that stands for")
    return yaml.safe_load(text)
