"""A study on a cluster: one array of jobs a number of nodes, and a last job that collects and reports."""

import math
import shlex
from pathlib import Path

from hpcfast.cluster import slurm
from hpcfast.errors import UserError
from hpcfast.runs.files import save_text
from hpcfast.scaling.jobs import Job
from hpcfast.scaling.study import Study


def submit(study: Study, file: Path, pending: list[Job]) -> list[str]:
    """Submit ``pending`` jobs of the study in ``file``, and one that follows them.

    Returns:
        Slurm's numbers of the arrays, then that of the last job.

    Raises:
        UserError: jobs of the study are in Slurm's queue already, or it refuses.
    """
    name = f"study-{study.name}"
    if queued := sorted(set(slurm.run(["squeue", "--me", "--noheader", f"--name={name}", "--format=%A"]).split())):
        numbers = " ".join(queued)
        raise UserError(f"jobs of {study.name} are in Slurm's queue already: {numbers}; wait, or scancel {numbers}")
    logs = study.folder / "logs"
    logs.mkdir(exist_ok=True)
    arrays = []
    for nodes in sorted({job.kind.nodes for job in pending}):
        jobs = [job for job in pending if job.kind.nodes == nodes]
        listing = study.folder / "slurm" / f"nodes-{nodes}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        save_text(listing, "".join(f"{shlex.join([str(job.log), *job.arguments])}\n" for job in jobs))
        options = {
            "job-name": name,
            "array": f"1-{len(jobs)}",
            "nodes": nodes,
            "ntasks-per-node": study.ranks_per_node,
            "gpus-per-node": study.ranks_per_node if study.gpus else 0,
            "cpus-per-task": study.threads,
            "time": math.ceil(study.minutes),
            "output": f"{logs}/slurm-%A_%a.log",
        }
        arrays.append(slurm.sbatch(options, slurm.SCRIPTS / "scaling_job.sh", str(listing)))
    last = {"dependency": f"afterany:{':'.join(arrays)}", "job-name": name, "output": f"{logs}/collect-%j.log"}
    script = slurm.SCRIPTS / "scaling_study.sh"
    return [*arrays, slurm.sbatch(last, script, str(file), "collect")]
