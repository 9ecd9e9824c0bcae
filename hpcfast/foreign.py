"""Code of the user's own, by import path: ``my_pkg.attacks.NoiseOnly``, installed or in the working folder.

To import code is to run it. So names are only followed inside of :func:`trusting`: of a configuration that its user
trains with, not of a run that may come from elsewhere.
"""

import hashlib
import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hpcfast.errors import UserError

OPTION = "--trust-code"

_trusted = False
_imported: "dict[str, Code]" = {}
_ran: dict[str, str] = {}
"""The SHA-256 of each module's file when it was imported here."""


class Untrusted(UserError):
    """A name leads to code that nobody has asked to run."""


class Code(NamedTuple):
    """A file whose code was run."""

    file: str
    sha256: str


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Follow import paths in this block, if ``trust``; what a block around it trusts stays trusted."""
    global _trusted
    before, _trusted = _trusted, _trusted or trust
    try:
        yield
    finally:
        _trusted = before


def is_path(name: str) -> bool:
    """Whether ``name`` is an import path, and not the name of something that comes with hpcfast or timm."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name) is not None


def load(name: str) -> Any:
    """Import what the path ``name`` leads to.

    Raises:
        Untrusted: nobody trusts it here.
        UserError: there is no such file or member, or importing it fails.
    """
    module, _, member = name.rpartition(".")
    file = _find(name, module)
    code = Code(str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    if not _trusted:
        raise Untrusted(
            f"'{name}' is code in {file} (sha256 {code.sha256}), which would be run; read it, and if you trust it give "
            f"{OPTION}"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # the last: a file here replaces nothing that is installed
    try:
        loaded = importlib.import_module(module)
        if _ran.get(module, code.sha256) != code.sha256:  # a notebook's user has changed it since
            loaded = importlib.reload(loaded)
        found = getattr(loaded, member, None)
    except Exception as error:
        raise UserError(f"'{name}': importing {file} failed: {error!r}; mend it, and give the same command") from error
    if loaded.__file__ is None or Path(loaded.__file__).resolve() != file.resolve():
        raise UserError(f"'{name}': {module} is {loaded.__file__} in this process, not {file}; give it another name")
    _ran[module] = code.sha256
    if found is None:
        raise UserError(f"'{name}': {file} defines no {member}; write the import path of a class or function there")
    _imported[name] = code
    return found


def imported(text: str) -> dict[str, dict[str, str]]:
    """Import paths in ``text`` that were followed, each with its ``file`` and the ``sha256`` of that."""
    return {name: code._asdict() for name, code in sorted(_imported.items()) if name in text}


def _find(name: str, module: str) -> Path:
    """The file of ``module``, without running anything of it or of the packages that hold it."""
    places: list[str] | None = [*sys.path, str(Path.cwd())]
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        whole = ".".join(parts[:end])
        specs = (finder.find_spec(whole, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec), None)
        if spec is None:
            raise UserError(
                f"'{name}': there is no module {whole}, neither in the working folder {Path.cwd()} nor installed"
            )
        places = list(spec.submodule_search_locations or [])
    if not (spec and spec.origin and Path(spec.origin).is_file()):
        raise UserError(f"'{name}': {module} is no Python file; write the import path of a class or function in one")
    return Path(spec.origin)
