"""What a batch script does once it has read the site's file: hpcfast on all ranks, and what follows on its end.

The job ends with 0 when the work is done or goes on in another job, with 75 when it was stopped and does not go on,
else with the code of the rank that failed first.

Only the standard library, from Python 3.8 on: hpcfast may lie in a container, which has no Slurm. slurm/lib.sh calls
this.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hpcfast.cluster import slurm
from hpcfast.errors import UserError

STOPPED = 75
RANK = Path(__file__).with_name("rank.py")
PATIENCE = 15.0
"""Seconds for srun to end all ranks after one has failed. It waits for those of a node that is cut off until Slurm
gives the node up, which takes minutes."""
EARLY = 'trap "" USR2 TERM; exec "$@"'
"""Until Python can handle signals they must not end it."""


@dataclass(frozen=True)
class Script:
    """What slurm/lib.sh hands over."""

    given: list[str]
    """The batch script and its arguments."""
    srun: list[str]
    """Further options of srun."""
    container: list[str]
    """What stands before hpcfast."""


class Failed(Exception):
    """The job ends with this code; the ranks have said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main(arguments: list[str]) -> NoReturn:
    """Run ``hpcfast COMMAND…`` on all ranks.

    ``task FILE`` instead is a job of a scaling study: the line of FILE with its number in the array has its log and its
    command.

    Args:
        arguments: the three lists of a :class:`Script`, each after its length, and the command.
    """
    os.environ["HPCFAST_JOB_STARTED"] = str(time.time())  # so that a run tells queueing from starting
    lists = []
    for _ in range(3):
        count = int(arguments.pop(0))
        lists.append(arguments[:count])
        del arguments[:count]
    script = Script(*lists)
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the ranks get them from Slurm, and this waits until they have ended
    try:
        sys.exit(task(script, Path(arguments[1])) if arguments[0] == "task" else work(script, arguments, result()))
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except Failed as failed:
        sys.exit(failed.code)


def task(script: Script, listing: Path) -> int:
    """Run a job of a scaling study, all that it says into its own log."""
    log, *command = shlex.split(listing.read_text().splitlines()[int(os.environ["SLURM_ARRAY_TASK_ID"]) - 1])
    with Path(log).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    began, code = time.monotonic(), 2
    say(f"== start {now()} {' '.join(map(shlex.quote, command))}")
    try:
        # Begun anew when it is submitted anew: a gap between two studies is no time that the job has lost. One between
        # its own starts (time limit, preemption, a lost node) is, and counts.
        fresh = [] if restarts() else ["--overwrite"]
        code = work(script, [*command, *fresh], Path(log).with_suffix(".json"))
    except Failed as failed:
        code = failed.code
        raise
    finally:
        say(f"\n== end {code} {time.monotonic() - began:.0f}")
    return code


def work(script: Script, command: list[str], into: Path) -> int:
    """Run ``hpcfast COMMAND…`` on all ranks, its numbers ``into`` a file, and see that it goes on where it stopped."""
    failed = into.with_suffix(".failed")
    stale = [failed] if restarts() else [failed, into]
    for file in stale:
        if file.exists():
            file.unlink()
    record(command)
    step = subprocess.Popen(srun(script, [*command, "--json", str(into)], failed), env=slurm.step_environment())
    code = wait(step, failed)
    if failed.exists():
        code = int(failed.read_text() or 1)
        failed.unlink()
    # Written last by hpcfast, whatever it does: the work is done when it is there. srun's code would not tell.
    if into.exists() and into.stat().st_size:
        say(f"== done; numbers in {into}")
        return 0
    if code:
        fail(code)
    return again(script)


def srun(script: Script, command: list[str], failed: Path) -> list[str]:
    """The command that starts all ranks, each line of theirs labelled with its rank."""
    options = [f"--mpi={os.environ['HPCFAST_MPI']}", "--export=ALL", "--label", "--kill-on-bad-exit=1"]
    options += ["--cpu-bind=cores", *slurm.ranks(), *script.srun]
    early = ["sh", "-c", EARLY, "rank"]
    inside = [*script.container, *early] if script.container else []
    return ["srun", *options, *early, "python3", str(RANK), str(failed.absolute()), *inside, "hpcfast", *command]


def wait(step: subprocess.Popen[bytes], failed: Path) -> int:
    """Return the code of srun, which is ended where it waits for a node that is cut off."""
    deadline = None
    while True:
        try:
            return step.wait(1)
        except subprocess.TimeoutExpired:
            if deadline is None and failed.exists():
                deadline = time.monotonic() + PATIENCE
            if deadline and time.monotonic() > deadline:
                step.kill()


def record(command: list[str]) -> None:
    """Say what the job runs with."""
    env = os.environ
    git = ["git", "-C", str(RANK.parent), "describe", "--always", "--dirty"]
    try:
        code = slurm.run(git)
    except (UserError, OSError):
        code = "not in git"
    say(f"== job {env['SLURM_JOB_ID']} ({env['SLURM_JOB_NAME']}), start {restarts() + 1}, {now()}")
    gpus = env.get("SLURM_GPUS_ON_NODE", "no")
    say(f"== nodes {env['SLURM_JOB_NODELIST']}, tasks {env['SLURM_TASKS_PER_NODE']}, {gpus} GPUs a node")
    say(f"== site {env['HPCFAST_SITE']}")
    say(f"== hpcfast {' '.join(map(shlex.quote, command))}")
    say(f"== code {code}")
    if env.get("LOADEDMODULES"):
        say(f"== modules {env['LOADEDMODULES']}")
    for name in sorted(env):
        if re.match("(HPCFAST|HOROVOD|NCCL|OMPI_MCA|FI|UCX|OMP)_", name) and not name.endswith("SECRET"):
            say(f"== {name}={env[name]}")


def fail(code: int) -> NoReturn:
    """End the job."""
    where = f"{os.environ['SLURM_JOB_NODELIST']}, start {restarts() + 1}"
    say(f"== FAILED with code {code} on {where}: the first error above has rank, host and cause")
    if code == 2:
        say("== the message above says what to change; nothing was lost")
    else:
        say("== the same sbatch command goes on from the last checkpoint")
    raise Failed(code)


def again(script: Script) -> int:
    """End this job so that the work goes on in another."""
    how, most = os.environ["HPCFAST_AGAIN"], int(os.environ["HPCFAST_MAX_REQUEUES"])
    try:
        job = slurm.show(slurm.this_job())
        if job["JobState"] != "RUNNING":
            say(f"== stopped (job is {job['JobState']}), with a checkpoint; the same sbatch command goes on")
            return STOPPED
        if how == "never" or restarts() >= most:
            say(
                f"== stopped before it was done, and not started again: HPCFAST_AGAIN={how}, {restarts()} of at most "
                f"{most} restarts; the same sbatch command goes on"
            )
            return STOPPED
        say(
            f"== stopped before it was done (time limit or preemption), with a checkpoint: {how}, restart "
            f"{restarts() + 1} of at most {most}"
        )
        if how == "requeue":
            requeue()
        following = chain(script, job)
    except UserError as error:
        say(f"error: {error}\n== nothing is lost: the same sbatch command goes on")
        return STOPPED
    say(f"== submitted job {following}, which goes on")
    return 0


def requeue() -> None:
    """Have Slurm run this job again, which ends it; returns where Slurm does not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        slurm.run(["scontrol", "requeue", slurm.this_job()])
    except UserError as error:
        say(f"== {error}: submitting it again")
        return
    signal.sigtimedwait({signal.SIGTERM}, 60)  # Slurm ends this script
    raise Failed(STOPPED)


def chain(script: Script, job: dict[str, str]) -> str:
    """Submit what this job was given once more, to start when it has ended; the number of that job."""
    file, *arguments = script.given
    options = {**slurm.options_of(job), "dependency": f"afterany:{slurm.this_job()}"}
    return slurm.sbatch(options, Path(file), *arguments, HPCFAST_RESTARTS=str(restarts() + 1))


def restarts() -> int:
    """How often this work was started before, by requeueing or by jobs that follow one another."""
    return sum(int(os.environ.get(name) or 0) for name in ("HPCFAST_RESTARTS", "SLURM_RESTART_COUNT"))


def result() -> Path:
    """Where the numbers go."""
    return Path(f"{os.environ['SLURM_JOB_NAME'].replace('/', '_')}-{os.environ['SLURM_JOB_ID']}.json")


def now() -> str:
    """The time, as in 2026-11-30T08:00:00Z."""
    return time.strftime("%FT%TZ", time.gmtime())


def say(line: str) -> None:
    """Write it into the job's log."""
    print(line, flush=True)
