"""The batch scripts with a Slurm that is not there: what they say to it, and how they end."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcfast.cluster import job

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
    refuses(made, "requeue", "")
    return made


def refuses(slurm: Slurm, what: str, words: str) -> None:
    """scontrol shows the job; it requeues it, by which it ends the script, unless it refuses that with ``words``."""
    end = f'echo "{words}" >&2; exit 1' if words else "kill -TERM $PPID"
    slurm.does("scontrol", f'if [ "$1" = {what} ]; then {end}; else cat "{slurm.path}/job"; fi')


def writes(result: str) -> str:
    """What srun does for ranks whose hpcfast is done."""
    return f"echo '{{}}' >{result}"


def test_ranks_get_the_jobs_environment_and_its_settings(slurm: Slurm) -> None:
    slurm.does("srun", writes("train-7.json"))
    slurm.env["SLURM_EXPORT_ENV"] = "NONE"
    done = slurm.run("train.sh", "my config.yaml", "name=x y", "guard={every: 0}")
    assert done.returncode == 0, done.stderr
    assert "== done; numbers in train-7.json" in done.stdout
    assert "== hpcfast train 'my config.yaml' 'name=x y' 'guard={every: 0}'" in done.stdout
    told = slurm.told("srun")
    assert told[-6:] == ["train", "my config.yaml", "name=x y", "guard={every: 0}", "--json", "train-7.json"]
    assert "--export=ALL" in told
    assert "--cpus-per-task=2" in told
    assert not (slurm.path / "sbatch").exists()


def test_a_container_stands_between_srun_and_hpcfast(slurm: Slurm) -> None:
    site = slurm.path / "site.sh"
    site.write_text("HPCFAST_MPI=pmix HPCFAST_SRUN=('--network=a b') HPCFAST_CONTAINER=(env -- 'A=a b')\n")
    slurm.does("srun", writes("train-7.json"))
    assert slurm.run("train.sh", "a.yaml").returncode == 0
    told = slurm.told("srun")
    assert {"--mpi=pmix", "--network=a b"} <= set(told)
    assert told[-8:] == ["sh", "-c", job.EARLY, "rank", "hpcfast", "train", "a.yaml", "--json", "train-7.json"][-8:]
    assert told[-12:-9] == ["env", "--", "A=a b"]


@pytest.mark.parametrize(
    ("gpus", "cpus", "tasks", "each"), [("4", "8", "4", "2"), ("1", "16", "1", "16"), ("8", "4", "8", "1")]
)
def test_there_is_one_rank_a_gpu(slurm: Slurm, gpus: str, cpus: str, tasks: str, each: str) -> None:
    slurm.env.update(SLURM_GPUS_ON_NODE=gpus, SLURM_JOB_CPUS_PER_NODE=f"{2 * int(cpus)},{cpus}(x2)")
    wishes = {"SLURM_GPUS_PER_NODE": "a100:4", "SLURM_GPUS_PER_TASK": "2", "SLURM_GPUS": str(2 * int(gpus))}
    slurm.env.update(wishes)
    slurm.run("train.sh", "a.yaml")
    assert {f"--ntasks-per-node={tasks}", f"--cpus-per-task={each}"} <= set(slurm.told("srun"))
    handed = (slurm.path / "srun.env").read_text()
    assert not any(f"{name}=" in handed for name in wishes), "srun would refuse what differs from the number of ranks"


def test_nodes_with_different_numbers_of_gpus_are_refused(slurm: Slurm) -> None:
    slurm.env.update(SLURM_GPUS_ON_NODE="3", SLURM_GPUS="a100:4", SLURM_JOB_CPUS_PER_NODE="4(x2)")
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 2
    assert "error: --gpus=4: Slurm has spread them unevenly over 2 nodes (3 on the first)" in done.stdout


def test_a_job_that_was_stopped_is_requeued(slurm: Slurm) -> None:
    (slurm.path / "train-7.json").write_text("{}")  # of another job of this number
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 75
    assert slurm.told("scontrol") == ["requeue", "7"]
    assert "requeue, restart 1 of at most 20" in done.stdout
    assert not (slurm.path / "sbatch").exists()


def test_where_requeueing_is_forbidden_a_job_follows_with_all_that_this_one_was_given(slurm: Slurm) -> None:
    refuses(slurm, "requeue", "Requested operation is presently disabled")
    done = slurm.run("train.sh", "a.yaml", "name=x y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Requested operation is presently disabled" in done.stdout
    assert "== submitted job 8" in done.stdout
    told = slurm.told("sbatch")
    assert told[-3:] == [str(ROOT / "slurm" / "train.sh"), "a.yaml", "name=x y"]
    assert set(told[1:-3]) == {
        "--account=physics", "--qos=long", "--partition=gpu", "--reservation=course", "--constraint=a100&ib",
        "--nodelist=n[1-2]", "--exclude=n7", "--comment=for the paper, a=b", "--time=04:00:00", "--mem=3000M",
        "--gpus-per-node=a100:2", "--gres=lscratch:100", "--ntasks=2", "--mail-user=me@here", "--mail-type=END,FAIL",
        "--export=ALL", "--output=/home/me7/logs/train-77-%j.log", "--job-name=train", "--nodes=2",
        "--ntasks-per-node=1", "--cpus-per-task=2", "--dependency=afterany:7",
    }  # fmt: skip
    handed = (slurm.path / "sbatch.env").read_text()
    assert "HPCFAST_RESTARTS=1\n" in handed
    assert "\nSLURM_" not in handed, "what Slurm has set for this job is wrong for another"


def test_what_newer_versions_of_slurm_say_is_understood(slurm: Slurm) -> None:
    shown = SHOW.format(state="RUNNING").replace("TresPerNode=gres:gpu:1,gres:lscratch:100,gres:gpu:a100:2", "")
    shown += "   TresPerNode=gres/gpu:a100:2 TresPerTask=cpu=2 OverSubscribe=NO\n"
    (slurm.path / "job").write_text(shown)
    slurm.env["HPCFAST_AGAIN"] = "chain"
    assert slurm.run("train.sh", "a.yaml").returncode == 0
    told = slurm.told("sbatch")
    assert {"--gpus-per-node=a100:2", "--exclusive"} <= set(told)
    assert not any(option.startswith(("--gpus-per-task", "--gres")) for option in told)


def test_a_task_of_an_array_speaks_for_itself_alone(slurm: Slurm) -> None:
    """Slurm gives one task of each array the number of the whole."""
    slurm.env.update(SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3")
    slurm.run("train.sh", "a.yaml")
    assert slurm.told("scontrol") == ["requeue", "7_3"]
    slurm.env["HPCFAST_AGAIN"] = "chain"
    slurm.run("train.sh", "a.yaml")
    assert slurm.told("scontrol") == ["show", "job", "7_3"]
    assert {"--array=3", "--dependency=afterany:7_3"} <= set(slurm.told("sbatch"))


def test_a_slurm_that_is_busy_is_asked_again(slurm: Slurm) -> None:
    busy = f'if [ ! -e "{slurm.path}/asked" ]; then touch "{slurm.path}/asked"; echo "Socket timed out" >&2; exit 1; fi'
    slurm.does("scontrol", f'{busy}; if [ "$1" = requeue ]; then kill -TERM $PPID; else cat "{slurm.path}/job"; fi')
    done = slurm.run("train.sh", "a.yaml")
    assert slurm.told("scontrol") == ["requeue", "7"], done.stdout


def test_words_of_all_kinds_arrive_as_they_are(slurm: Slurm) -> None:
    slurm.env["LC_ALL"] = "C"
    words = ["name=jürgen", "a\tb", "it's", "$HOME", ""]
    slurm.does("srun", writes("train-7.json"))
    slurm.run("train.sh", "a.yaml", *words)
    assert slurm.told("srun")[-7:-2] == words


def test_a_chain_that_slurm_refuses_is_told(slurm: Slurm) -> None:
    slurm.env["HPCFAST_AGAIN"] = "chain"
    slurm.does("sbatch", "echo 'sbatch: error: Job violates accounting/QOS policy' >&2; exit 1")
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 75
    assert "Job violates accounting/QOS policy" in done.stdout
    assert "nothing is lost: the same sbatch command goes on" in done.stdout


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"HPCFAST_AGAIN": "never"}, "HPCFAST_AGAIN=never"),
        ({"HPCFAST_MAX_REQUEUES": "3", "SLURM_RESTART_COUNT": "2", "HPCFAST_RESTARTS": "1"}, "3 of at most 3 restarts"),
    ],
)
def test_a_job_may_not_go_on_for_ever(slurm: Slurm, env: dict[str, str], says: str) -> None:
    slurm.env.update(env)
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 75
    assert says in done.stdout
    assert slurm.told("scontrol")[0] == "show"


def test_a_cancelled_job_does_not_go_on(slurm: Slurm) -> None:
    (slurm.path / "job").write_text(SHOW.format(state="COMPLETING"))
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 75
    assert "stopped (job is COMPLETING), with a checkpoint" in done.stdout


@pytest.mark.parametrize(
    ("left", "code", "says"), [("2", 2, "says what to change"), ("139", 139, "goes on from the last")]
)
def test_a_failure_ends_with_the_code_of_the_first_rank_that_failed(
    slurm: Slurm, left: str, code: int, says: str
) -> None:
    slurm.does("srun", f"echo {left} >train-7.failed; exit 143")
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == code
    assert f"== FAILED with code {code} on n[1-2], start 1" in done.stdout
    assert says in done.stdout
    assert not (slurm.path / "train-7.failed").exists()


def test_srun_is_ended_where_it_waits_for_a_node_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0.1)
    (tmp_path / "failed").write_text("1")
    began = time.monotonic()
    assert job.wait(subprocess.Popen(["sleep", "600"]), tmp_path / "failed") == -9
    assert time.monotonic() - began < 60


def test_a_signal_does_not_end_the_script_before_its_ranks(slurm: Slurm) -> None:
    slurm.does("srun", f"kill -TERM $PPID; kill -USR2 $PPID; {writes('train-7.json')}")
    assert slurm.run("train.sh", "a.yaml").returncode == 0


@pytest.mark.parametrize(
    ("script", "env", "says"),
    [
        ("train.sh", {}, "error: name a configuration"),
        ("evaluate.sh", {}, "error: name the run directory"),
        ("scaling_study.sh", {}, "error: name the study"),
        ("stage_and_train.sh", {}, "error: name the packed data set"),
        ("train_imagenet_l2.sh", {"CONFIG": "tiny.yaml"}, "error: CONFIG=tiny.yaml is not read: it is an argument"),
        ("train_imagenet_l2.sh", {"OVERRIDES": "epochs=1"}, "error: OVERRIDES is not read: settings are arguments"),
        ("train_imagenet_l2.sh", {"SLURM_JOB_ID": ""}, "error: this is a batch script: sbatch "),
        ("train_imagenet_l2.sh", {"HPCFAST_SITE": "nowhere.sh"}, "error: no file nowhere.sh"),
        ("train_imagenet_l2.sh", {"HPCFAST_HOME": "nowhere"}, "error: run sbatch in hpcfast's folder"),
    ],
)  # fmt: skip
def test_a_script_that_lacks_something_refuses(slurm: Slurm, script: str, env: dict[str, str], says: str) -> None:
    slurm.env.update(env)
    done = slurm.run(script)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (slurm.path / "srun").exists()


def test_a_job_of_a_study_writes_into_its_own_log(slurm: Slurm) -> None:
    log = slurm.path / "logs" / "a b.log"
    log.parent.mkdir()
    (slurm.path / "jobs.txt").write_text(f"'other.log' train other.yaml\n'{log}' train my.yaml 'name=a b'\n")
    slurm.env["SLURM_ARRAY_TASK_ID"] = "2"
    slurm.does("srun", f"echo trained; {writes(repr(str(log.with_suffix('.json'))))}")
    assert slurm.run("scaling_job.sh", "jobs.txt").returncode == 0
    said = log.read_text()
    assert said.startswith("== start ")
    assert "\ntrained\n" in said
    assert "\n== end 0 " in said
    assert slurm.told("srun")[-5:] == ["my.yaml", "name=a b", "--overwrite", "--json", str(log.with_suffix(".json"))]
    slurm.env["SLURM_RESTART_COUNT"] = "1"
    slurm.run("scaling_job.sh", "jobs.txt")
    assert "--overwrite" not in slurm.told("srun"), "a start after the first resumes"


def test_the_host_needs_no_package() -> None:
    names = "hpcfast.cluster.job, hpcfast.cluster.rank"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {names}"]
    )
    assert done.returncode == 0
