"""What the machine must have, checked before the long downloads; a failure says how to get it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuplib.shell import ROOT, fail

FREE_GB = 12
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def base_python() -> str:
    """The Python below .venv's, where this one is .venv's own."""
    return getattr(sys, "_base_executable", sys.executable)


def check_python() -> None:
    """The parts of Python that Linux distributions package on their own."""
    command = [base_python(), "-c", "import ensurepip, venv"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        fail(
            f"{base_python()} cannot make virtual environments: it lacks the module venv or ensurepip",
            f"'apt-get install python{VERSION}-venv', or another Python: PYTHON=... scripts/setup",
        )
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").is_file():
        fail(
            f"Python {VERSION} lacks its headers, which Horovod's build needs: no Python.h in {include}",
            f"'apt-get install python{VERSION}-dev', or another Python: PYTHON=... scripts/setup",
        )


def check_compiler() -> None:
    """A C++20 compiler and make, for Horovod."""
    compiler = os.environ.get("CXX", "c++")
    cure = "'apt-get install g++ make'; on a cluster 'module load gcc' (11 or newer), then 'export CXX=g++'"
    if shutil.which(compiler) is None:
        fail(f"no C++ compiler: there is no {compiler} on PATH", cure)
    program = b"#include <concepts>\nstatic_assert(std::integral<int>);\n"
    command = [compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    if subprocess.run(command, input=program, capture_output=True, check=False).returncode:
        fail(f"{shutil.which(compiler)} does not compile C++20, which torch's headers are written in", cure)
    if shutil.which("make") is None:
        fail("there is no make on PATH", cure)


def check_room() -> None:
    """Room for a new .venv."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < FREE_GB:
        fail(
            f"{free:.1f} GB are free in {ROOT}, and making .venv takes {FREE_GB}",
            "clone hpcfast onto a file system with more room (project or scratch space), or free some",
        )


def cache_folder() -> Path:
    """Where built wheels are kept; tried out now, not after minutes of compiling."""
    default = Path.home() / ".cache" / "hpcfast"
    cache = Path(os.environ.get("HPCFAST_CACHE") or default).absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        fail(f"Horovod's wheel cannot be kept in {cache}: {error}", "HPCFAST_CACHE=FOLDER scripts/setup")
    return cache
