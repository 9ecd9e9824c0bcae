"""What a batch script does once it has read the site's file: hpcfast on all ranks, and what follows on its end.

The job ends with 0 when the work is done or goes on in another job, with 75 when it was stopped and does not go on,
else with the code of the rank that failed first.

Only the standard library, from Python 3.8 on: hpcfast may lie in a container, which has no Slurm. slurm/lib.sh calls
this.
"""

from __future__ import annotations

import contextlib
import itertools
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
from hpcfast.cluster.ending import STOPPED, Failed, again, restarts, say
from hpcfast.cluster.faults import ANSWER, Faults, Outcome
from hpcfast.errors import UserError

RANK = Path(__file__).with_name("rank.py")
PROMPT, PATIENCE, KILLED = 3.0, 10.0, 3.0
"""Seconds for srun to end all ranks after one has failed: until the nodes are asked whether they are there, then until
the ranks are killed, then until srun is."""
EARLY = 'trap "" USR2 TERM; exec "$@"'
"""Until Python can handle signals they must not end it."""
OVERWRITE = "--overwrite"
"""Of the first start only: the others go on."""


@dataclass(frozen=True)
class Script:
    """What slurm/lib.sh hands over."""

    given: list[str]
    """The batch script and its arguments."""
    srun: list[str]
    """Further options of srun."""
    container: list[str]
    """What stands before hpcfast."""


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
        # its own starts (time limit, preemption, a fault) is, and counts.
        code = work(script, [*command, OVERWRITE], Path(log).with_suffix(".json"))
    except Failed as failed:
        code = failed.code
        raise
    finally:
        say(f"\n== end {code} {time.monotonic() - began:.0f}")
    return code


def work(script: Script, command: list[str], into: Path) -> int:
    """Run ``hpcfast COMMAND…`` on all ranks, its numbers ``into`` a file, and see that it goes on where it stopped."""
    if not restarts():
        remove(into)
    faults = Faults(script.given)
    record(command)
    for number in itertools.count(restarts()):
        anew = [word for word in command if word != OVERWRITE or number == 0]
        outcome = start(script, anew, into)
        # Written last by hpcfast, whatever it does: the work is done when it is there. srun's code would not tell.
        if into.exists() and into.stat().st_size:
            say(f"== done; numbers in {into}")
            return 0
        if not outcome.code:
            return stopped(script)
        if not faults.restart(outcome):
            break
    return 0


def start(script: Script, command: list[str], into: Path) -> Outcome:
    """Run the command once."""
    failed, saved = into.with_suffix(".failed"), into.with_suffix(".saved")
    remove(failed, saved)
    variables = {**slurm.step_environment(), "HPCFAST_SAVED": str(saved.absolute())}
    step = subprocess.Popen(srun(script, [*command, "--json", str(into)], failed), env=variables)
    all_ended, silent = wait(step, failed)
    outcome = Outcome.read(failed) or Outcome(step.returncode)
    outcome = outcome._replace(all_ended=all_ended, silent=silent, saved=saved.exists())
    remove(failed, saved)
    return outcome


def stopped(script: Script) -> int:
    """See that the work goes on, which was stopped with a checkpoint."""
    try:
        again(script.given, "stopped before it was done (time limit or preemption), with a checkpoint")
    except UserError as error:
        say(f"== stopped before it was done, with a checkpoint, and not started again: {error}")
        say("== nothing is lost: the same sbatch command goes on")
        return STOPPED
    return 0


def srun(script: Script, command: list[str], failed: Path) -> list[str]:
    """The command that starts all ranks, each line of theirs labelled with its rank."""
    options = [f"--mpi={os.environ['HPCFAST_MPI']}", "--export=ALL", "--label", "--kill-on-bad-exit=1"]
    options += ["--cpu-bind=cores", *slurm.ranks(), *script.srun]
    early = ["sh", "-c", EARLY, "rank"]
    inside = [*script.container, *early] if script.container else []
    return ["srun", *options, *early, "python3", str(RANK), str(failed.absolute()), *inside, "hpcfast", *command]


def wait(step: subprocess.Popen[bytes], failed: Path) -> tuple[bool, tuple[str, ...]]:
    """Return when srun has ended: whether all ranks have, and the nodes that gave no answer meanwhile.

    srun waits for ranks on a node that is cut off until Slurm gives the node up, which takes minutes: it is ended.
    """
    while not over(step, 1) and not failed.exists():
        pass
    if over(step, PROMPT):
        return True, ()
    silent = tuple(unreached())
    if not silent:
        if over(step, PATIENCE):
            return True, ()
        kill(failed)
        if over(step, KILLED):
            return True, ()
    step.kill()
    step.wait()
    return False, silent


def over(step: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether srun ends within ``seconds``."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        step.wait(seconds)
    return step.poll() is not None


def unreached() -> list[str]:
    """Nodes that give no answer, as far as Slurm can tell."""
    with contextlib.suppress(UserError):
        return slurm.silent_nodes(ANSWER)
    return []


def kill(failed: Path) -> None:
    """Have Slurm kill the ranks, of which one has ``failed``."""
    outcome = Outcome.read(failed)
    if outcome and outcome.step:
        slurm.kill(outcome.step)


def remove(*files: Path) -> None:
    """Remove them, where they are."""
    for file in files:
        if file.exists():
            file.unlink()


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


def result() -> Path:
    """Where the numbers go."""
    return Path(f"{os.environ['SLURM_JOB_NAME'].replace('/', '_')}-{os.environ['SLURM_JOB_ID']}.json")


def now() -> str:
    """The time, as in 2026-11-30T08:00:00Z."""
    return time.strftime("%FT%TZ", time.gmtime())
