"""A Slurm that is not there: what it is told is written down, and what it says is made up."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHOW = """JobId=7 JobName=train
   UserId=me(1) GroupId=me(1) MCS_label=N/A
   Priority=1 Nice=0 Account=physics QOS=long
   JobState={state} Reason=None Dependency=(null)
   RunTime=00:00:10 TimeLimit=04:00:00 TimeMin=N/A
   Partition=gpu AllocNode:Sid=login:1
   ReqNodeList=n[1-2] ExcNodeList=n7
   NumNodes=2 NumCPUs=4 NumTasks=2 CPUs/Task=2 ReqB:S:C:T=0:0:*:*
   MinCPUsNode=2 MinMemoryNode=3000M MinTmpDiskNode=0
   Features=a100&ib DelayBoot=00:00:00 Reservation=course
   Comment=for the paper, a=b
   Command=/spool/job7/slurm_script
   StdOut=/home/me7/logs/train-77-7.log
   MailUser=me@here MailType=END,FAIL
   TresPerNode=gres:gpu:1,gres:lscratch:100,gres:gpu:a100:2
"""
ENV = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2",
    "SLURM_TASKS_PER_NODE": "1(x2)", "SLURM_CPUS_PER_TASK": "2",
    "SLURM_NTASKS_PER_NODE": "1", "SLURM_MEM_PER_NODE": "3000",
}  # fmt: skip


@dataclass
class Slurm:
    """Commands that write down what they are told, and a job of them."""

    path: Path
    env: dict[str, str] = field(default_factory=lambda: dict(ENV))

    def does(self, name: str, script: str) -> None:
        """Have the command ``name`` do this, after it has written down its arguments and variables."""
        file = self.path / "bin" / name
        file.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$@" >"{self.path}/{name}"; env >"{self.path}/{name}.env"\n{script}'
        )
        file.chmod(0o755)

    def told(self, name: str) -> list[str]:
        """The arguments of its last call."""
        return (self.path / name).read_text().splitlines()

    def run(self, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": f"{self.path / 'bin'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
        env |= {"HPCFAST_HOME": str(ROOT), "HPCFAST_SITE": str(self.path / "site.sh"), **self.env}
        command = ["bash", str(ROOT / "slurm" / script), *arguments]
        return subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """All is well: ranks stop with a checkpoint, and the job is requeued."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "site.sh").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    made = Slurm(tmp_path)
    made.does("srun", "exit 0")
    made.does("sbatch", "echo 8")
    (tmp_path / "job").write_text(SHOW.format(state="RUNNING"))
    refuses(made, "")
    return made


def refuses(slurm: Slurm, words: str) -> None:
    """scontrol shows the job; it requeues it, by which it ends the script, unless it refuses that with ``words``."""
    end = f'echo "{words}" >&2; exit 1' if words else "kill -TERM $PPID"
    slurm.does("scontrol", f'if [ "$1" = requeue ]; then {end}; else cat "{slurm.path}/job"; fi')


def writes(result: str) -> str:
    """What srun does for ranks whose hpcfast is done."""
    return f"echo '{{}}' >{result}"
