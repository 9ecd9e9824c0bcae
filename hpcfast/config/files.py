"""YAML files and what merging them means."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

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
    except FileNotFoundError:
        near = sorted(str(p) for p in Path("configs").glob("*.yaml"))
        origin = f" (the base of {seen[-1]})" if seen else ""
        raise UserError(f"no config file {path}{origin}; there are: {', '.join(near) or 'none in configs/'}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no readable YAML: {error}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} must hold 'key: value' lines at its top level")
    base = values.pop("base", None)
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
