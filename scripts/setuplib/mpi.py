"""Which MPI the ranks use: the cluster's, where its mpicxx is on PATH, else Open MPI from PyPI."""

import os
import shutil
import sys
from pathlib import Path

from setuplib.shell import VENV, output

PYPI = "Open MPI from PyPI"
PTH = "hpcfast_mpi.pth"


def cluster_mpicxx() -> str | None:
    """The mpicxx on PATH that is not .venv's own."""
    own = (VENV / "bin").resolve()
    path = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and Path(p).resolve() != own]
    return shutil.which("mpicxx", path=os.pathsep.join(path))


def library_folders(mpicxx: str) -> list[str]:
    """The folders of the MPI's libraries, as its compiler wrapper names them."""
    words = output([mpicxx, "-show"]).split()
    folders = [word[2:] for word in words if word.startswith("-L")]
    return list(dict.fromkeys(f for f in folders if Path(f).is_dir()))


def identity(mpicxx: str) -> str:
    """All of a cluster's MPI that a compiled library depends on."""
    version = output(["mpirun", "--version"]).partition("\n")[0]
    return f"{mpicxx}: {output([mpicxx, '-show'])}; {version}"


def write_pth(mpicxx: str | None) -> None:
    """Let every Python of .venv find its MPI, with or without a launcher.

    Open MPI's wheel aborts in MPI_Init without OPAL_PREFIX unless its mpirun started the process. mpi4py
    looks for libmpi where the linker does, and not every cluster's module sets LD_LIBRARY_PATH.
    """
    if mpicxx is None:
        line = 'import os, sys; os.environ.setdefault("OPAL_PREFIX", sys.prefix)'
    else:
        # the empty last entry is the linker's own search
        folders = os.pathsep.join([*library_folders(mpicxx), ""])
        line = f'import os; os.environ.setdefault("MPI4PY_LIBMPI", {folders!r})'
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (VENV / "lib" / version / "site-packages" / PTH).write_text(line + "\n", encoding="utf-8")
