"""Imports without torch's compiler, until somebody compiles: a third of the time of a start, and 200 MB of each rank.

torch's optimizers call it at every step, and torchvision asks it a question, both to no effect in code that is not
compiled; timm's Muon looks for tensors spread over ranks. So a stand-in does nothing in its place. Whatever else is
asked of ``torch._dynamo``, or imported from it, is the real one's, which then takes the stand-in's place.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"
UTILS, SPREAD = f"{NAME}.utils", "torch.distributed.tensor"


class StandIn(ModuleType):
    """``torch._dynamo`` where nothing is compiled."""

    settled = False
    """The imports are over: nothing else that they look for is missed."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing: there is no graph."""

    @staticmethod
    def disable(function: Any, *_: Any, **__: Any) -> Any:
        """``function`` as it is, which nobody compiles."""
        return function

    @staticmethod
    def is_compiling() -> bool:
        return False

    @property
    def __path__(self) -> Sequence[str]:  # type: ignore[override]  # asked for by imports from it
        return list(real().__path__)

    def __getattr__(self, name: str) -> Any:
        if not self.settled or name.startswith("__"):
            raise AttributeError(name)
        return getattr(real(), name)


class Loaded:
    """Finds modules that the real one has imported when it took its place, in the midst of their own import."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        there = name.startswith(f"{NAME}.") and name in sys.modules
        return spec_from_loader(name, Loaded()) if there else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """It has been."""


def real() -> ModuleType:
    """The real one, in the stand-in's place."""
    import torch

    if isinstance(sys.modules.get(NAME), StandIn):
        del sys.modules[NAME]
        torch._dynamo = importlib.import_module(NAME)
    return sys.modules[NAME]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import in this block what needs no compiler; does nothing where it has been imported already."""
    import torch

    if NAME in sys.modules:
        yield
        return

    def is_compile_supported(device: Any) -> Any:
        return importlib.import_module(UTILS).is_compile_supported(device)

    stand_in, utils = StandIn(NAME), ModuleType(UTILS)
    utils.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    torch._dynamo = stand_in
    sys.modules.update({NAME: stand_in, UTILS: utils})
    sys.modules[SPREAD] = None  # type: ignore[assignment]  # an import of it fails, as where there is none
    try:
        yield
    finally:
        for name in (UTILS, SPREAD):
            del sys.modules[name]
        stand_in.settled = True
        sys.meta_path.insert(0, Loaded)
