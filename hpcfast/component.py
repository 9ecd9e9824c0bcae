"""How a YAML ``name:`` finds its class, and how a wrong setting is explained.

A component is a frozen pydantic model: its fields are its settings, its methods do the work. The name of its file is
its name: ``attack: {name: pgd, steps: 7}`` is the one :class:`Component` in ``hpcfast/attacks/pgd.py``, with
``steps=7``. Adding a file adds a component; nothing else needs to be touched. A name with dots is the import path of a
component of the user's own (:mod:`hpcfast.foreign`).
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, get_args
from unicodedata import category

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from hpcfast import foreign
from hpcfast.errors import UserError


class Settings(BaseModel):
    """A frozen group of validated settings; an unknown key is an error.

    The docstring below a field is its description: in ``hpcfast config schema`` and in docs/reference/config.md.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_line_breaks(cls, values: Any) -> Any:
        """Settings get into batch scripts, logs and pages, where what follows a line break could be a command."""
        if wrong := [
            f"{short(key)}: {short(ascii(text))} holds a line break or another control character"
            for key, text in _broken(values)
        ]:
            raise Invalid(wrong)
        return values


S = TypeVar("S", bound=Settings)

LONGEST = 200
"""Characters of a wrong value that a message shows."""
RENAMED = {"hpcfast.attacks": {"fgsm": "fgsm_rs", "natural": "standard"}}
"""What components were called before, and in other projects, by their package."""


class Component(Settings):
    """Settings with a ``name`` that says which class they belong to."""

    name: str
    """Which one."""


class Invalid(UserError, ValueError):
    """What is wrong with a group of settings, one ``key: problem`` a line. A ValueError too, for pydantic."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _broken(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings in ``values`` that hold control characters or halves of characters, and their keys."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _broken(name, key)
            yield from _broken(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from _broken(value, f"{key}.{place}")
    elif isinstance(values, str) and any(category(char) in ("Cc", "Cs", "Zl", "Zp") for char in values):
        yield key, values


def validate(cls: type[S], values: dict[str, Any]) -> S:
    """Return ``cls(**values)``.

    Raises:
        Invalid: with a line for every wrong key, its value and what is legal.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise Invalid([line for detail in error.errors() for line in _explain(cls, detail)]) from None


def chosen_from(package: str) -> BeforeValidator:
    """Return a pydantic validator that turns ``{name: …, …}`` into the component of ``package`` it names."""

    def build(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return validate(find(package, str(value.get("name"))), value)

    return BeforeValidator(build)


def find(package: str, name: str) -> type[Component]:
    """Return the component class called ``name`` in ``package`` (a dotted module name), or at that import path.

    Raises:
        Invalid: there is none; the message lists those there are.
    """
    if foreign.is_path(name):
        return _own(package, name)
    if new := RENAMED.get(package, {}).get(name):
        raise Invalid([f"name: '{name}' is called '{new}' here; write that"])
    known = components(package)
    if name not in known:
        raise Invalid([f"name: {choices(name, known)}"])
    return known[name]


def _own(package: str, name: str) -> type[Component]:
    """The class at the import path ``name``, which must be a kind of what ``package`` holds."""
    members = vars(importlib.import_module(package)).values()
    base = next(m for m in members if isinstance(m, type) and issubclass(m, Component) and m.__module__ == package)
    try:
        found = foreign.load(name)
    except foreign.Untrusted:
        raise
    except UserError as error:
        raise Invalid([f"name: {error}"]) from error.__cause__
    if not (isinstance(found, type) and issubclass(found, base)):
        raise Invalid([f"name: '{name}' is no subclass of {package}.{base.__name__}; derive it from that"])
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise Invalid([f"name: '{name}' lacks the method {missing[0]}; see {package}.{base.__name__}"])
    return found


def names(package: str) -> list[str]:
    """Names of all components in ``package``, sorted."""
    return sorted(components(package))


def components(package: str) -> dict[str, type[Component]]:
    """All components in ``package`` (a dotted module name), by name."""
    found: dict[str, type[Component]] = {}
    for file in pkgutil.iter_modules(importlib.import_module(package).__path__):
        at = f"{package}.{file.name}"
        for member in vars(importlib.import_module(at)).values():
            if isinstance(member, type) and issubclass(member, Component) and member.__module__ == at:
                found[file.name] = member
    return found


def choices(value: object, legal: Iterable[str], shown: int = 40) -> str:
    """Say, for an error message, that ``value`` is none of ``legal``, and which of those come nearest."""
    legal, value = sorted(legal), short(str(value))
    folded = {name.lower(): name for name in legal}  # of other case is near

    def near(n: int, cutoff: float) -> list[str]:
        return [folded[name] for name in difflib.get_close_matches(value.lower(), folded, n, cutoff)]

    hint = f" (did you mean '{near(1, 0.6)[0]}'?)" if near(1, 0.6) else ""
    listed = legal if len(legal) <= shown else [*(near(5, 0.3) or legal[:5]), "…"]
    return f"'{value}' is not one of: {', '.join(listed)}{hint}"


def short(shown: str) -> str:
    """A value for a message: of a long one, which may be a file's worth, the start."""
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def _settings_in(annotation: Any) -> type[Settings]:
    """The settings class that a field's annotation is, or holds (``tuple[Phase, ...]``)."""
    inner = (annotation, *get_args(annotation))
    return next(c for c in inner if isinstance(c, type) and issubclass(c, Settings))


def _explain(cls: type[Settings], detail: Any) -> list[str]:
    """Lines for one of pydantic's error details: the key, the value, what is legal."""
    key = short(".".join(str(part) for part in detail["loc"]))
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Invalid):
        return [f"{key}.{line}" if key else line for line in cause.lines]
    if detail["type"] == "extra_forbidden":
        owner = cls
        for part in detail["loc"][:-1]:
            if isinstance(part, str):  # not the place in a list
                owner = _settings_in(owner.model_fields[part].annotation)
        legal = choices(detail["loc"][-1], owner.model_fields)
        return [f"{key}: unknown key; {legal}"]
    if detail["type"] == "missing":
        return [f"{key}: missing; it has no default"]
    message = str(cause) if cause else detail["msg"][0].lower() + detail["msg"][1:]
    return [f"{key}: {message} (got {short(repr(detail['input']))})" if key else message]
