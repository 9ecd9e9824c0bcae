"""Which MPI the ranks use: the cluster's, where a mpicxx on PATH builds programs, else Open MPI from PyPI."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from setuplib.shell import VENV, environment, output

PYPI = "Open MPI from PyPI"
PTH = "hpcfast_mpi.pth"
PROGRAM = "#include <mpi.h>\nint main(int argc, char** argv) {\n  return MPI_Init(&argc, &argv); }\n"


def cluster_mpicxx() -> str | None:
    """The mpicxx on PATH that is not .venv's own, where it builds programs."""
    found = on_path()
    return None if found is None or fault(found) else found


def on_path() -> str | None:
    """The mpicxx on PATH that is not .venv's own, whether it works or not."""
    own = (VENV / "bin").resolve()
    path = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and Path(p).resolve() != own]
    return shutil.which("mpicxx", path=os.pathsep.join(path))


@cache
def fault(mpicxx: str) -> str:
    """Its first error as it compiles and links a program of three lines, "" without one.

    Some clusters and Debian's openmpi-bin have the wrapper without MPI's headers or libraries.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "mpi.cc"
        source.write_text(PROGRAM, encoding="ascii")
        command = [mpicxx, str(source), "-o", str(source.with_suffix(""))]
        try:
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, errors="replace", timeout=60, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    said = (done.stderr + done.stdout).replace(f"{folder}/", "").strip().splitlines()
    errors = [line for line in said if re.search("error|cannot|undefined|not found", line, re.IGNORECASE)]
    return "" if done.returncode == 0 else [*errors, *said, f"exit status {done.returncode}"][0].strip()


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
