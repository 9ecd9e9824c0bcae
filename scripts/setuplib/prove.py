"""The proof that a set-up works: what Horovod was built with, and allreduces of two ranks."""

import os
import shutil

from setuplib.shell import PYTHON, ROOT, VENV, environment, fail, run, say

RANKS = str(ROOT / "scripts" / "setuplib" / "ranks.py")
HOROVODRUN = str(VENV / "bin" / "horovodrun")
TIMEOUT = 180
CURE = "read the lines above; 'rm -r .venv' and scripts/setup start from nothing"


def features(nccl: bool) -> None:
    """Check the features that Horovod says it was built with."""
    report = run([HOROVODRUN, "--check-build"], "horovodrun --check-build", CURE, timeout=TIMEOUT)
    want = ["PyTorch", "Gloo", "MPI", *(["NCCL"] if nccl else [])]
    missing = [name for name in want if f"[X] {name}" not in report]
    if missing:
        fail(f"this Horovod was built without {', '.join(missing)}", CURE)
    say(f"      Horovod has {', '.join(want)}")


def gloo() -> None:
    """Two ranks over Gloo, which needs no MPI."""
    command = [HOROVODRUN, "--gloo", "-np", "2", str(PYTHON), RANKS, "gloo"]
    run(command, "an allreduce of two ranks over Gloo", CURE, timeout=TIMEOUT)
    say("      2 ranks over Gloo: sum is right")


def mpi() -> None:
    """Two ranks over MPI, where mpi4py must see the same two."""
    if shutil.which("mpirun", path=environment()["PATH"]) is None:
        say("      2 ranks over MPI: not tried, for there is no mpirun on PATH (only srun?)")
        return
    # For this proof alone: a set-up in a container runs as root, and a login node may grant one core.
    env = {
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    if os.geteuid() == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "-n", "2", str(PYTHON), RANKS, "mpi"]
    run(command, "an allreduce of two ranks over MPI", CURE, env=env, timeout=TIMEOUT)
    say("      2 ranks over MPI: sum is right, mpi4py agrees")
