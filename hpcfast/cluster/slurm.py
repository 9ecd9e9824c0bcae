"""What is said to Slurm."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import hpcfast
from hpcfast.errors import UserError

SCRIPTS = Path(hpcfast.__file__).parents[1] / "slurm"
"""The batch scripts of the checkout."""


def sbatch(options: Mapping[str, object], script: Path, **variables: str) -> str:
    """Submit a job; what Slurm has told the job that we may be part of is not handed on.

    Args:
        options: sbatch's, without the dashes.
        script: the batch script.
        variables: of the job's environment, besides our own.

    Returns:
        Its number.

    Raises:
        UserError: Slurm refuses, in its own words.
    """
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    given = [f"--{name}={value}" for name, value in options.items()]
    said = run(
        ["sbatch", "--parsable", *given, str(script)], {**ours, "HPCFAST_HOME": str(SCRIPTS.parent), **variables}
    )
    return said.partition(";")[0]  # "number;cluster" where there are several


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What one of Slurm's commands says.

    Raises:
        UserError: it fails, in its own words.
    """
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        cure = "'squeue --me' lists jobs that were submitted before"
        raise UserError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}; {cure}")
    return done.stdout.strip()


def require(otherwise: str) -> None:
    """Refuse to continue without Slurm; ``otherwise`` says what can be done instead.

    Raises:
        UserError: there is no sbatch on PATH.
    """
    if shutil.which("sbatch") is None:
        raise UserError(f"there is no sbatch on PATH; run this on a login node of a cluster with Slurm, or {otherwise}")
