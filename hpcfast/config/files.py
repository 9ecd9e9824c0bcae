"""YAML files: what merging them means, and what settings in those of earlier versions were called."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpcfast.component import RENAMED
from hpcfast.distributed.settings import GONE
from hpcfast.errors import UserError

KEPT = ("model", "optim")
"""Groups whose settings (but for ``options``) mean the same under another ``name``."""


def read(path: Path, seen: tuple[Path, ...] = ()) -> DictConfig:
    """Read a file, merged into its ``base:`` and that one's.

    Raises:
        UserError: one of them cannot be read, or they go round in a circle.
    """
    if path.resolve() in [p.resolve() for p in seen]:
        raise UserError(f"base: {' -> '.join(str(p) for p in (*seen, path))} is a circle; remove one 'base:'")
    try:
        values = OmegaConf.load(path)
        base = values.pop("base", None) if isinstance(values, DictConfig) else None
    except FileNotFoundError:
        near = sorted(str(p) for p in Path("configs").glob("*.yaml"))
        origin = f" (the base of {seen[-1]})" if seen else ""
        raise UserError(f"no config file {path}{origin}; there are: {', '.join(near) or 'none in configs/'}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is no readable YAML: {error}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} must hold 'key: value' lines at its top level")
    if not isinstance(base, str | None):
        raise UserError(f"{path}: base: {base} is no file name; write e.g. 'base: digits_l2.yaml'")
    return values if base is None else merge(read(path.parent / base, (*seen, path)), values)


def merge(base: DictConfig, over: DictConfig) -> DictConfig:
    """Merge ``over`` into ``base``; what belonged to a component that ``over`` replaces is dropped."""
    for key, new in over.items():
        old = base.get(key)
        if not (isinstance(old, DictConfig) and isinstance(new, DictConfig)):
            base[key] = new
            continue
        if "name" in new and new["name"] != old.get("name"):
            old = old if key in KEPT else OmegaConf.create({})
            old.pop("options", None)
        base[key] = merge(old, new)
    return base


def rename(values: Any, at: str = "") -> list[str]:
    """Put the names of now into ``values``, the nested settings of a run that an earlier version has made, in place.

    Returns:
        What a person should know, a phrase for each setting that meant something.
    """
    said, attacks = [], RENAMED["hpcfast.attacks"]
    is_attack = at.rpartition(".")[2] == "attack" or at.rstrip("0123456789").endswith("ladder.")
    if isinstance(values, dict) and is_attack and str(values.get("name")) in attacks:
        values["name"] = attacks[values["name"]]
        said.append(f"{at}.name={values['name']}")
    if isinstance(values, dict) and at == "allreduce":
        for key in GONE:
            if (value := values.pop(key, None)) is not None:
                said.append(f"{at}.{key}={value} is left to {GONE[key]}")
    inner: Any = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, inside in inner:
        said += rename(inside, f"{at}.{part}" if at else str(part))
    return said
