"""Compiles Horovod's wheel from the source distribution on PyPI, which is not edited.

Horovod's own variable HOROVOD_CMAKE names the wrapper `cmake` in this folder, and that one adds hook.cmake, which
links wake.cc and address.cc into Horovod's library.
"""

import os
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuplib import mpi, requirements
from setuplib.shell import NETWORK, PIP, ROOT, run

HERE = Path(__file__).resolve().parent
# of the source distribution that setup.cfg names; pip refuses another
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
# Turing to Blackwell; newer GPUs compile the last one's PTX
CUDA_ARCHITECTURES = "75,80,90,100"
GB_PER_COMPILER = 1.8


def install_tools(folder: Path, *extras: str) -> None:
    """Tools of the build alone, beside .venv and not in it."""
    constraints = ROOT / "scripts" / "constraints.txt"
    command = [*PIP, "install", "--target", str(folder), "--constraint", str(constraints)]
    run([*command, *requirements.read(*extras)], "fetching the build's tools", NETWORK)


def cuda_toolkit(tools: Path) -> tuple[Path, Path]:
    """The CUDA toolkit among the tools, laid out as CMake expects it, and torch's own NCCL."""
    (nvcc,) = tools.glob("nvidia/cu*/bin/nvcc")
    home = nvcc.parents[1]
    nccl = Path(sysconfig.get_path("platlib")) / "nvidia" / "nccl"
    (home / "lib64").symlink_to("lib")
    # wheels lack the names without a version, by which a linker looks for libraries
    for library in [*home.glob("lib/*.so.*"), *nccl.glob("lib/*.so.*")]:
        bare = home / "lib" / f"{library.name.partition('.so.')[0]}.so"
        if not bare.exists():
            bare.symlink_to(library)
    return home, nccl


def make_jobs() -> int:
    """As many compilers as cores, but no more than there is memory for."""
    cores = len(os.sched_getaffinity(0))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (kib,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return min(cores, 2)
    return max(1, min(cores, int(kib * 1024 / (GB_PER_COMPILER * 1e9))))


def build_environment(tools: Path, mpicxx: str | None, nccl: bool) -> dict[str, str]:
    """The variables that Horovod's setup.py, its CMake files and our hooks read."""
    env = {
        # under `make setup` this variable is make's own and would name no number
        "MAKEFLAGS": f"-j{make_jobs()}",
        "HOROVOD_CMAKE": str(HERE / "cmake"),
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_MPI": "1",
        "HPCFAST_CMAKE": str(tools / "cmake" / "data" / "bin" / "cmake"),
        "HPCFAST_MPI_FOLDERS": ";".join(mpi.library_folders(mpicxx)) if mpicxx else "",
    }
    if not nccl:
        return env | {"HPCFAST_CPU": "1"}
    home, nccl_home = cuda_toolkit(tools)
    return env | {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(home),
        "CUDA_HOME": str(home),  # torch's; CMake stops where the two differ
        "CUDACXX": str(home / "bin" / "nvcc"),
        "HOROVOD_NCCL_INCLUDE": str(nccl_home / "include"),
        "HOROVOD_NCCL_LIB": str(home / "lib"),
        "HOROVOD_NCCL_LINK": "SHARED",
        "HOROVOD_BUILD_CUDA_CC_LIST": CUDA_ARCHITECTURES,
    }


@contextmanager
def built(horovod: str, mpicxx: str | None, nccl: bool) -> Iterator[Path]:
    """Compile the pinned Horovod; the wheel is gone after the `with`."""
    with tempfile.TemporaryDirectory(prefix="hpcfast-horovod-") as name:
        work = Path(name)
        install_tools(work / "tools", "build", *(["cuda"] if nccl else []))
        env = build_environment(work / "tools", mpicxx, nccl)
        for variable in [key for key in os.environ if key.startswith("HOROVOD_")]:
            del os.environ[variable]  # nothing left over from a user's other builds decides
        pin = work / "horovod.txt"
        pin.write_text(f"{horovod} --hash=sha256:{SHA256}\n", encoding="utf-8")
        command = [*PIP, "wheel", "--verbose", "--no-deps", "--no-build-isolation", "--use-pep517"]
        command += ["--no-binary", "horovod", "--no-cache-dir"]
        command += ["--wheel-dir", str(work / "wheel"), "--requirement", str(pin)]
        cure = "read the first error in that file; if that is 'Killed', memory was too small: try on a larger node"
        run(command, "building Horovod", cure, env=env)
        (wheel,) = (work / "wheel").glob("*.whl")
        yield wheel
