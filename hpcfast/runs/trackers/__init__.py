"""Experiment trackers, which show runs to people. Each file here is one, chosen by its name; docs/trackers.md.

What a tracker knows of a run is in ``events.jsonl``, so that whatever it has lost it can be told again.
"""

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from hpcfast.component import Component
from hpcfast.errors import UserError


class Point(NamedTuple):
    """A number that was measured at a step."""

    key: str
    value: float
    step: int
    time: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class About:
    """The run that a tracker is to show."""

    id: str
    """Of all processes of the run, and of no other run."""
    name: str
    folder: Path
    """For the tracker's own files, in the run directory."""
    config: dict[str, Any]


class Sink(Protocol):
    """A run in a tracker, open to be told more. Whatever its methods raise ends it, and nothing else."""

    def log(self, points: Sequence[Point]) -> None:
        """Take ``points``; those that it has already, by key and step, are not to be doubled."""

    def end(self, summary: dict[str, Any] | None) -> None:
        """Close it; without a ``summary`` the run isn't finished."""


class Tracker(Component, ABC):
    """A tracker and its settings."""

    environment: ClassVar[dict[str, str]] = {}
    """Set before its library is imported, unless the user has: what keeps it off the network."""

    @property
    @abstractmethod
    def library(self) -> str:
        """The module that is imported."""

    @property
    def package(self) -> str:
        """What pip calls it."""
        return self.library

    @abstractmethod
    def open(self, run: About) -> Sink:
        """Show ``run`` anew, or go on where an earlier process has stopped; called again after a rollback."""


def require(trackers: Iterable[Tracker]) -> None:
    """Import what ``trackers`` need, before a run begins and while no other thread imports.

    Raises:
        UserError: something is not installed.
    """
    for tracker in trackers:
        for name, value in tracker.environment.items():
            os.environ.setdefault(name, value)
        try:
            importlib.import_module(tracker.library)
        except ImportError as error:
            raise UserError(
                f"trackers: {tracker.name} needs the package {tracker.package}, which cannot be imported here "
                f"({error}); 'pip install {tracker.package}' installs it, or leave {tracker.name} out of trackers"
            ) from None


def numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers in nested ``values``, by the path that leads to them."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found
