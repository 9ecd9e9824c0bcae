"""A run's configuration: YAML files and ``key=value`` overrides become one frozen, validated :class:`RunConfig`.

A file may name another with ``base:`` and then holds only what differs. Validation happens here, once, before
any device or file of the run is touched.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpcfast.component import RENAMED, Invalid, components, short, validate
from hpcfast.config import defaults
from hpcfast.config.groups import Check, CheckpointSettings, GuardSettings, Phase
from hpcfast.config.settings import RunConfig
from hpcfast.distributed import launcher, lines
from hpcfast.distributed.settings import GONE
from hpcfast.errors import UserError
from hpcfast.optim.position import in_epochs
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.names import printable
from hpcfast.runs.reading import listed, read_yaml, shipped

__all__ = [
    "Check",
    "CheckpointSettings",
    "GuardSettings",
    "Option",
    "Phase",
    "RunConfig",
    "load",
    "parse",
    "read_run",
    "schema",
]


class Option(str):
    """``key=value`` that an option of the command line stands for; messages show that option, as it was typed."""

    typed: str

    @classmethod
    def of(cls, option: str, value: object, key: str, setting: object = None) -> "Option":
        """``option`` with ``value`` sets ``key`` to ``setting``, or to the value itself."""
        found = cls(f"{key}={value if setting is None else setting}")
        found.typed = f"{option} {value}"
        return found


KEPT = ("model", "optim")
"""Groups whose settings (but for ``options``) mean the same under another ``name``."""


def load(path: Path, overrides: list[str] | None = None, of_run: bool = False) -> RunConfig:
    """Read ``path`` and its bases, apply ``key=value`` overrides, validate.

    Without a ``name`` the run is called after the file. What a run directory holds (``of_run``; a ``config.yaml``
    beside an ``events.jsonl`` is taken for that) may be of an earlier version, with names and numbers of then.

    Raises:
        UserError: a file cannot be read, or settings are wrong; the message has a line for each wrong key.
    """
    with understood(str(path)):
        values = OmegaConf.to_container(OmegaConf.merge({"name": path.stem}, _read(path)))
    if of_run or (path.name == "config.yaml" and (path.parent / "events.jsonl").is_file()):
        said = rename(values)
        if said and launcher.rank() in (None, 0):
            lines.write(f"{path} is of an earlier version; its old names mean: {', '.join(said)}", sys.stderr)
    return parse(values, overrides or [], str(path))


def engine(path: Path, overrides: list[str] | None = None) -> str:
    """The engine that a configuration asks for, before ranks have joined it: what else is wrong is told after that."""
    with suppress(UserError), understood(str(path)):
        return str(_merge(_read(path), OmegaConf.from_dotlist(overrides or [])).get("engine") or "auto")
    return "auto"


def read_run(run: RunDirectory, overrides: list[str] | None = None) -> RunConfig:
    """The configuration that ``run`` was made with, with ``overrides``.

    Raises:
        UserError: this is no run directory, or settings are wrong.
    """
    if not run.config.is_file():
        raise UserError(f"{run.path} is no run directory (it has no config.yaml); train one with 'hpcfast train'")
    return load(run.config, overrides, of_run=True)


def parse(values: Any, overrides: list[str], origin: str) -> RunConfig:
    """Apply ``key=value`` overrides to ``values``, a mapping, and validate.

    Raises:
        UserError: settings are wrong; the message has a line for each, and blames an override or ``origin``.
    """
    for text in overrides:
        if "=" not in text:
            raise UserError(f"'{text}' is no setting: write key=value, e.g. epochs=10 or threat.eps=8/255")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{printable(text)}: this is no UTF-8, and settings are kept as YAML, which is; rename the file, "
                f"or give a link to it that has another name"
            ) from None
    typed = [text.typed if isinstance(text, Option) else text for text in overrides]
    for text, words in zip(overrides, typed, strict=True):
        with understood(words if isinstance(text, Option) else f"{origin}, {words}"):
            OmegaConf.from_dotlist([text])
    try:
        with understood(f"{origin}, {' '.join(typed)}"):
            merged = _merge(OmegaConf.create(values), OmegaConf.from_dotlist(overrides))
            plain: Any = OmegaConf.to_container(merged, resolve=True)
            return validate(RunConfig, defaults.fill(plain))
    except Invalid as error:
        keys = [text.partition("=")[0] for text in overrides]
        raise UserError(_blamed(error.lines, origin, dict(zip(keys, typed, strict=True)))) from None


def _blamed(lines: list[str], origin: str, typed: dict[str, str]) -> str:
    """What is wrong in a run's settings, of which some were ``typed``, by key."""
    said, by_override, others = list[str](), dict[str, str](), list[str]()
    for line in lines:
        key, _, problem = line.partition(": ")
        words = next((words for start, words in typed.items() if f"{key}.".startswith(f"{start}.")), "")
        if words.startswith("--"):
            said.append(f"{short(words)}: {problem}")
        elif words:
            by_override[line] = words
        else:
            others.append(line)
    beside = f" with {short(' '.join(typed.values()))}" if typed else ""
    blamed = short(" ".join(dict.fromkeys(by_override.values())))
    for header, wrong in ((blamed, [*by_override]), (f"{origin}{beside}", others)):
        said += [f"{header}: wrong settings", *(f"  {line}" for line in wrong)] if wrong else []
    return "\n".join([*said, *(["'hpcfast config schema' lists all settings"] if by_override or others else [])])


@contextmanager
def understood(origin: str) -> Iterator[None]:
    """Raise a UserError that names ``origin`` for whatever odd text makes OmegaConf raise in this block.

    That is nearly everything: IndexError for a key such as "[", RecursionError where lists nest by the hundred.
    """
    try:
        yield
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{origin}: it nests too deeply") from None
    except Exception as error:  # noqa: BLE001 - see above
        raise UserError(f"{origin}: {str(error) or repr(error)}") from None


def schema() -> dict[str, Any]:
    """JSON schemas: of a configuration file, and of every component that a ``name`` in it can choose."""
    packages = {"attacks": "attacks", "schedules": "optim.schedules", "trackers": "runs.trackers"}
    groups = {group: components(f"hpcfast.{package}") for group, package in packages.items()}
    return {
        "run": RunConfig.model_json_schema(),
        **{group: {name: c.model_json_schema() for name, c in classes.items()} for group, classes in groups.items()},
    }


def _read(path: Path, seen: tuple[Path, ...] = ()) -> DictConfig:
    """Read a file, merged into its ``base:`` and that one's.

    Raises:
        UserError: one of them cannot be read, or they go round in a circle.
    """
    path = shipped(path)  # first: its base is the one beside it
    if path.resolve() in [p.resolve() for p in seen]:
        raise UserError(f"base: {' -> '.join(str(p) for p in (*seen, path))} is a circle; remove one 'base:'")
    try:
        values = read_yaml(path, lambda text: OmegaConf.load(io.StringIO(text)))
        base = values.pop("base", None) if isinstance(values, DictConfig) else None
    except FileNotFoundError:
        near = listed("configs")
        origin = f" (the base of {seen[-1]})" if seen else ""
        raise UserError(f"no config file {path}{origin}; there are: {near or 'none in configs/'}") from None
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is no readable YAML: {error}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} must hold 'key: value' lines at its top level")
    if not isinstance(base, str | None) or (base and not base.isprintable()):
        raise UserError(f"{path}: base: {base!a} is no file name; write e.g. 'base: digits_l2.yaml'")
    return values if base is None else _merge(_read(path.parent / base, (*seen, path)), values)


def _merge(base: DictConfig, over: DictConfig) -> DictConfig:
    """Merge ``over`` into ``base``; what belonged to a component that ``over`` replaces is dropped."""
    for key, new in over.items():
        old = base.get(key)
        if not (isinstance(old, DictConfig) and isinstance(new, DictConfig)):
            base[key] = new
            continue
        if "name" in new and new["name"] != old.get("name"):
            old = old if key in KEPT else OmegaConf.create({})
            old.pop("options", None)
        base[key] = _merge(old, new)
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
    if isinstance(values, dict) and at == "schedule":
        said += _in_epochs(values)
    if isinstance(values, dict) and at == "allreduce":
        for key in GONE:
            if (value := values.pop(key, None)) is not None:
                said.append(f"{at}.{key}={value} is left to {GONE[key]}")
    inner: Any = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, inside in inner:
        said += rename(inside, f"{at}.{part}" if at else str(part))
    return said


def _in_epochs(schedule: dict[str, Any]) -> list[str]:
    """Give the numbers of a schedule, which were epochs, their unit, in place; what to say of it."""
    before = repr(schedule)
    for key in ("warmup", "milestones", "knots"):
        given = schedule.get(key)
        if isinstance(given, list):
            pairs = [[in_epochs(each[0]), *each[1:]] if isinstance(each, list) else in_epochs(each) for each in given]
            schedule[key] = pairs
        elif key in schedule:
            schedule[key] = in_epochs(given)
    return ["the numbers of schedule are epochs"] if repr(schedule) != before else []
