"""What is said to Slurm, and what it says.

Only the standard library, from Python 3.8 on: see hpcfast/cluster/job.py.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcfast.errors import UserError

SCRIPTS = (Path(__file__).parents[1] / "shipped" / "slurm").resolve()
"""The batch scripts: of the checkout, or as they were installed."""
HOME = {"HPCFAST_HOME": str(SCRIPTS.parent), "HPCFAST_LIBRARY": str(Path(__file__).parents[2])}
"""Variables that tell batch scripts where they and the package lie."""
OPTIONS = {
    "Account": "account", "QOS": "qos", "Partition": "partition", "Reservation": "reservation",
    "Features": "constraint", "ReqNodeList": "nodelist", "ExcNodeList": "exclude", "Comment": "comment",
    "Licenses": "licenses", "TimeLimit": "time", "NumTasks": "ntasks", "MinMemoryNode": "mem",
    "MinMemoryCPU": "mem-per-cpu", "MailUser": "mail-user", "MailType": "mail-type", "Switches": "switches",
}  # fmt: skip
"""What `scontrol show job` tells of a job, and the option of sbatch that it was given."""
GPUS = {
    "TresPerJob": "gpus", "TresPerNode": "gpus-per-node", "TresPerTask": "gpus-per-task", "MemPerTres": "mem-per-gpu",
}  # fmt: skip
"""The same, of values as gres:gpu:a100:2 and, from Slurm 23.11 on, cpu=4,gres/gpu:a100:2."""
BUSY = 60.0
"""Seconds to ask Slurm again."""
VARIABLES = {f"SLURM_{name.upper().replace('-', '_')}": name for name in ("ntasks-per-node", "cpus-per-task")}
"""What only the job itself knows."""
WISHES = (
    "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU", "SLURM_TRES_PER_TASK",
)  # fmt: skip
"""How the job asked for GPUs: srun refuses some of these, although all GPUs of the job are there for its ranks."""


def sbatch(options: Mapping[str, object], script: Path, *arguments: str, **variables: str) -> str:
    """Submit a job; what Slurm has told the job that we may be part of is not handed on: it would be wrong there.

    Args:
        options: sbatch's, without the dashes; None for one that has no value.
        script: the batch script.
        arguments: the script's.
        variables: of the job's environment, besides our own.

    Returns:
        Its number.

    Raises:
        UserError: Slurm refuses, in its own words.
    """
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    given = [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    command = ["sbatch", "--parsable", *given, str(script), *arguments]
    try:
        said = run(command, {**ours, **HOME, **variables})
    except UserError as error:
        raise UserError(f"{error}; 'squeue --me' lists jobs that were submitted before") from None
    return said.partition(";")[0]  # "number;cluster" where there are several


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What one of Slurm's commands says.

    Raises:
        UserError: it fails, in its own words.
    """
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = " ".join(map(shlex.quote, command))
        raise UserError(f"{shown}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def require(otherwise: str) -> None:
    """Refuse to continue without Slurm; ``otherwise`` says what can be done instead.

    Raises:
        UserError: there is no sbatch on PATH.
    """
    if shutil.which("sbatch") is None:
        raise UserError(f"there is no sbatch on PATH; run this on a login node of a cluster with Slurm, or {otherwise}")


def this_job() -> str:
    """What Slurm calls the job that we are in; of an array, the task alone."""
    env = os.environ
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env["SLURM_JOB_ID"]


def show(job: str) -> dict[str, str]:
    """What Slurm says of a job, of what is set; it may be busy when many jobs end at once.

    Raises:
        UserError: it does not answer for a minute.
    """
    deadline = time.monotonic() + BUSY
    while True:
        try:
            said = run(["scontrol", "show", "job", job])
            break
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)
    found = {}
    for line in said.splitlines():
        alone = re.match(r" *(Comment|StdOut)=(.*)", line)  # on a line of their own, may have blanks
        pairs = [alone.groups()] if alone else re.findall(r"(\S+?)=(\S*)", line)
        found.update({key: value for key, value in pairs if value not in ("", "(null)", "N/A")})
    return found


def seconds_left(job: Mapping[str, str]) -> float:
    """Until the time limit, of the job that :func:`show` has shown."""
    try:
        return time.mktime(time.strptime(job.get("EndTime", ""), "%Y-%m-%dT%H:%M:%S")) - time.time()
    except ValueError:  # Unknown
        return math.inf


def silent_nodes(seconds: float) -> list[str]:
    """Nodes of the job that we are in which start no process within ``seconds``.

    Raises:
        UserError: scontrol fails.
    """
    nodes = run(["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]).split()
    size = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--cpus-per-task=1"]
    command = ["srun", "--overlap", "--mpi=none", *size, "sh", "-c", 'echo "$SLURMD_NODENAME"']
    probe = subprocess.Popen(command, env=step_environment(), stdout=subprocess.PIPE, text=True)
    try:
        said, _ = probe.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        probe.kill()
        said, _ = probe.communicate()
    return sorted(set(nodes) - set(said.split()))


def kill(step: str) -> None:
    """Kill all processes of a step of the job that we are in, as far as its nodes answer."""
    with contextlib.suppress(UserError):
        run(["scancel", "--signal=KILL", f"{this_job()}.{step}"])


def options_of(job: Mapping[str, str]) -> dict[str, str | None]:
    """The options of sbatch that the job we are in was given, by command line, variables or script.

    Args:
        job: what :func:`show` says of it.
    """
    env = os.environ
    options: dict[str, str | None] = {OPTIONS[key]: value for key, value in job.items() if key in OPTIONS}
    for key, name in GPUS.items():
        others = []
        for item in job.get(key, "").split(","):
            what, _, amount = re.sub("^gres[:/]", "", item).replace("=", ":", 1).partition(":")
            if what == "gpu":
                options[name] = amount or "1"  # of two requests, a script's and another kind's, the last holds
            elif item.startswith("gres"):
                others.append(f"{what}:{amount}")
        if others:
            options["gres"] = ",".join(others)
    options.update({name: env[key] for key, name in VARIABLES.items() if key in env})
    options.update({"job-name": env["SLURM_JOB_NAME"], "nodes": env["SLURM_JOB_NUM_NODES"], "export": "ALL"})
    if job.get("OverSubscribe") == "NO":
        options["exclusive"] = None
    if "SLURM_ARRAY_TASK_ID" in env:
        options["array"] = env["SLURM_ARRAY_TASK_ID"]
    if "StdOut" in job:
        folder, _, name = job["StdOut"].rpartition("/")
        options["output"] = f"{folder}/" + re.sub(rf"(?<!\d){env['SLURM_JOB_ID']}(?!\d)", "%j", name)
    return options


def ranks() -> list[str]:
    """Options of srun for one rank a GPU; where the job we are in has none, for as many as it asked for.

    Raises:
        UserError: Slurm has given nodes different numbers of GPUs.
    """
    env = os.environ
    gpus, nodes = int(env.get("SLURM_GPUS_ON_NODE", 0)), int(env["SLURM_JOB_NUM_NODES"])
    if not gpus:
        return [f"--cpus-per-task={env.get('SLURM_CPUS_PER_TASK', 1)}"]
    asked = env.get("SLURM_GPUS", "").rpartition(":")[2]  # "4" or "a100:4"
    if asked.isdigit() and 0 < int(asked) != gpus * nodes:
        raise UserError(
            f"--gpus={asked}: Slurm has spread them unevenly over {nodes} nodes ({gpus} on the first); ask for as many "
            "on each, --gpus-per-node=…"
        )
    cpus = min(map(int, re.findall(r"(\d+)(?:\(x\d+\))?", env["SLURM_JOB_CPUS_PER_NODE"])))  # "16(x3),8"
    size = [f"--ntasks={gpus * nodes}", f"--ntasks-per-node={gpus}", f"--cpus-per-task={max(1, cpus // gpus)}"]
    return [*size, "--overcommit"] if cpus < gpus else size


def step_environment() -> dict[str, str]:
    """The variables for srun; a secret of the job is among them, by which its ranks know one another."""
    ours = {key: value for key, value in os.environ.items() if key not in WISHES}
    return {"HPCFAST_SECRET": secrets.token_hex(16), **ours}
