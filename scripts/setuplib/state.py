"""What a set-up shall make of .venv, and how far the last one came (.venv/setup-state.json)."""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from setuplib import mpi, requirements
from setuplib.shell import PYTHON, ROOT, VENV

SCRIPTS = ROOT / "scripts"
FILE = VENV / "setup-state.json"


@dataclass(frozen=True)
class Place:
    """What an existing .venv cannot change: another one starts from nothing."""

    root: str
    python: str
    mpi: str

    @property
    def mpicxx(self) -> str | None:
        """The compiler wrapper of the cluster's MPI, None with PyPI's."""
        return None if self.mpi == mpi.PYPI else self.mpi


@dataclass
class State:
    """How far a set-up came; `content` is the hash of what was, or is being, set up."""

    place: Place
    content: str
    packages: bool = False
    finished: bool = False

    def write(self) -> None:
        """Replace the file at once, never half of it."""
        part = FILE.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        part.replace(FILE)


def read() -> State | None:
    """The state of .venv, or None where no set-up began it or its Python has gone."""
    try:
        data: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
        state = State(**data | {"place": Place(**data["place"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if PYTHON.exists() else None


def extras() -> list[str]:
    """The extras of setup.cfg to install, beside those that the machine calls for."""
    return os.environ.get("HPCFAST_EXTRAS", "dev").replace(",", " ").split()


def wanted(old: State | None, mpicxx: str | None) -> State:
    """The state that a set-up of this checkout ends in."""
    # A shell without the MPI's module loaded (that of `make test`, say) does not ask for another MPI.
    known = mpicxx or (old.place.mpi if old else mpi.PYPI)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return State(Place(str(ROOT), f"{version} of {sys.base_prefix}", known), _content())


def _content() -> str:
    """A hash of all that decides what .venv holds."""
    files = [SCRIPTS / "constraints.txt", SCRIPTS / "build_horovod.py", SCRIPTS / "setup_venv.py"]
    files += [*(SCRIPTS / "setuplib").glob("*.py"), *(SCRIPTS / "horovod_build").glob("*")]
    total = hashlib.sha256(f"{requirements.digest()} {extras()}".encode())
    for file in sorted(file for file in files if file.is_file()):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()
