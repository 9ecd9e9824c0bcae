"""JSON and YAML that a disk, a kill or a hand may have spoilt: it is read, or a ValueError says what is wrong with it.

Parsers raise more than that of odd text: RecursionError where it nests deeply, KeyError, AttributeError and others.
"""

import json
import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parents[1] / "shipped"
"""What comes with hpcfast beside its code: the folders configs/ and slurm/ of the checkout."""
MOST = 10_000
"""Values that a YAML file may unfold to, as OmegaConf has it."""


def loads(text: str | bytes) -> Any:
    """What a JSON text says; ValueError if it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def read_json(path: Path) -> Any:
    """What a JSON file says; ValueError if it is none, OSError if it cannot be read."""
    return loads(path.read_text())


def shipped(path: Path) -> Path:
    """``path``, or the file of that name that came with hpcfast, where a path in configs/ leads to nothing."""
    theirs = SHIPPED / path
    return theirs if path.parts[:1] == ("configs",) and not path.exists() and theirs.exists() else path


def listed(folder: str) -> str:
    """The YAML files in a folder of configs/, for a message."""
    return ", ".join(sorted(str(Path(folder, file.name)) for file in shipped(Path(folder)).glob("*.yaml")))


def read_yaml(path: Path, load: Callable[[str], Any] | None = None) -> Any:
    """What a YAML file says; ValueError if it is none, OSError if it cannot be read.

    Args:
        load: makes it of the text, and refuses aliases that unfold to too much; by default YAML's plain values.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return (load or _plain)(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except Exception as error:  # noqa: BLE001 - of an odd tag PyYAML raises whatever it runs into
        raise ValueError(str(error) or repr(error)) from None


def _plain(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    if (node := loader.get_single_node()) is None:
        return None
    if _unfolded(node, {}) > MOST:
        raise ValueError(f"its aliases (*name) unfold to more than {MOST:,} values")
    return loader.construct_document(node)


def _unfolded(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many nodes it has, each as often as aliases repeat it; of one that holds itself, infinitely many."""
    if node not in known:
        known[node] = math.inf
        inner: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
        known[node] = 1 + sum(_unfolded(each, known) for each in inner)
    return known[node]
