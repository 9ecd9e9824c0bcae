"""A study on a cluster: one array of jobs a number of nodes, and a last job that collects and reports."""

import math
import os
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import hpcfast
from hpcfast.errors import UserError
from hpcfast.runs.files import save_text
from hpcfast.scaling.jobs import Job
from hpcfast.scaling.study import Study

HOME = Path(hpcfast.__file__).parents[1]
"""The checkout, whose folder slurm/ has the batch scripts."""


def submit(study: Study, file: Path, pending: list[Job]) -> list[str]:
    """Submit ``pending`` jobs of the study in ``file``, and one that follows them.

    Returns:
        Slurm's numbers of the arrays, then that of the last job.

    Raises:
        UserError: jobs of the study are in Slurm's queue already, or it refuses.
    """
    _refuse_queued(study)
    by_nodes: dict[int, list[Job]] = defaultdict(list)
    for job in pending:
        by_nodes[job.kind.nodes].append(job)
    (study.folder / "logs").mkdir(exist_ok=True)
    arrays = [_array(study, nodes, jobs) for nodes, jobs in sorted(by_nodes.items())]
    after = f"--dependency=afterany:{':'.join(arrays)}"
    output = f"--output={study.folder}/logs/collect-%j.log"
    last = _sbatch([after, f"--job-name={_name(study)}", output], "scaling_study.sh", STUDY=str(file), STEP="collect")
    return [*arrays, last]


def _array(study: Study, nodes: int, jobs: list[Job]) -> str:
    """Submit jobs that differ in anything but the number of nodes; a line of a file says what each runs."""
    listing = study.folder / "slurm" / f"nodes-{nodes}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    save_text(listing, "".join(f"{shlex.join([str(job.log), *job.arguments])}\n" for job in jobs))
    options = {
        "job-name": _name(study),
        "array": f"1-{len(jobs)}",
        "nodes": nodes,
        "ntasks-per-node": study.ranks_per_node,
        "gpus-per-node": study.ranks_per_node if study.gpus else 0,
        "cpus-per-task": study.threads,
        "time": math.ceil(study.minutes),
        "output": f"{study.folder}/logs/slurm-%A_%a.log",
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return _sbatch(given, "scaling_job.sh", HPCFAST_JOBS=str(listing))


def _sbatch(options: list[str], script: str, **variables: str) -> str:
    """Submit a batch script of slurm/; what Slurm has told the job that we may be part of is not handed on."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    command = ["sbatch", "--parsable", *options, str(HOME / "slurm" / script)]
    env = {**ours, "HPCFAST_HOME": str(HOME), **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        cure = "jobs that were submitted before that are listed by 'squeue --me'"
        raise UserError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}; {cure}")
    return done.stdout.strip().partition(";")[0]  # "number;cluster" where there are several


def refuse_without_slurm() -> None:
    """Refuse to go on without Slurm.

    Raises:
        UserError: there is no sbatch on PATH.
    """
    if shutil.which("sbatch") is None:
        cure = "run this on a login node of a cluster with Slurm, or here with --local"
        raise UserError(f"there is no sbatch on PATH; {cure}")


def _refuse_queued(study: Study) -> None:
    command = ["squeue", "--me", "--noheader", f"--name={_name(study)}", "--format=%A"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")
    if queued := sorted(set(done.stdout.split())):
        numbers = " ".join(queued)
        raise UserError(f"jobs of {study.name} are in Slurm's queue already: {numbers}; wait, or scancel {numbers}")


def _name(study: Study) -> str:
    return f"study-{study.name}"
