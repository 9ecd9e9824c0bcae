"""The batch scripts with a Slurm that is not there: what they start, and how they end."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcfast.cluster import job
from hpcfast.distributed.secret import LEAST
from tests.unit.cluster.conftest import ROOT, Slurm, writes


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


def test_ranks_get_a_secret_that_nothing_shows(slurm: Slurm) -> None:
    slurm.does("srun", writes("train-7.json"))

    def handed() -> str:
        done = slurm.run("train.sh", "a.yaml")
        (found,) = re.findall("^HPCFAST_SECRET=(.+)$", (slurm.path / "srun.env").read_text(), re.MULTILINE)
        assert found not in done.stdout + done.stderr + " ".join(slurm.told("srun"))
        return str(found)

    began = time.time()
    first = handed()
    assert len(first) >= LEAST
    (started,) = re.findall("^HPCFAST_JOB_STARTED=(.+)$", (slurm.path / "srun.env").read_text(), re.MULTILINE)
    assert began <= float(started) <= time.time()
    assert handed() != first, "each start has its own"
    slurm.env["HPCFAST_SECRET"] = "what the user has set"
    assert handed() == "what the user has set"


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


def test_words_of_all_kinds_arrive_as_they_are(slurm: Slurm) -> None:
    slurm.env["LC_ALL"] = "C"
    words = ["name=jürgen", "a\tb", "it's", "$HOME", ""]
    slurm.does("srun", writes("train-7.json"))
    slurm.run("train.sh", "a.yaml", *words)
    assert slurm.told("srun")[-7:-2] == words


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


@pytest.mark.parametrize(("silent", "killed"), [(["n2"], []), ([], ["5"])])
def test_srun_is_ended_where_it_waits_for_a_node_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: list[str], killed: list[str]
) -> None:
    asked: list[str] = []
    for name in ("PROMPT", "PATIENCE", "KILLED"):
        monkeypatch.setattr(job, name, 0.1)
    monkeypatch.setattr(job.slurm, "kill", asked.append)
    monkeypatch.setattr(job.slurm, "silent_nodes", lambda seconds: silent)
    (tmp_path / "failed").write_text("1 5")
    step = subprocess.Popen(["sleep", "600"])
    assert job.wait(step, tmp_path / "failed") == (False, tuple(silent))
    assert asked == killed, "where a node is silent, nobody waits for Slurm to kill its ranks"
    assert step.returncode == -signal.SIGKILL


def test_the_sites_file_of_ones_own_is_read_where_there_is_one(slurm: Slurm, tmp_path: Path) -> None:
    own = tmp_path / ".config" / "hpcfast" / "site.sh"
    own.parent.mkdir(parents=True)
    (tmp_path / "site.sh").rename(own)
    slurm.does("srun", writes("train-7.json"))
    slurm.env |= {"HPCFAST_SITE": "", "HOME": str(tmp_path)}
    assert f"== site {own}\n" in slurm.run("train.sh", "a.yaml").stdout
    other = tmp_path / "other.sh"
    other.write_text(own.read_text())
    slurm.env["HPCFAST_SITE"] = str(other)
    assert f"== site {other}\n" in slurm.run("train.sh", "a.yaml").stdout


def test_batch_scripts_may_lie_elsewhere_than_the_package(slurm: Slurm, tmp_path: Path) -> None:
    """As in a wheel, which has them in hpcfast/shipped."""
    (tmp_path / "share").mkdir()
    (tmp_path / "library").mkdir()
    (tmp_path / "share" / "slurm").symlink_to(ROOT / "slurm")
    (tmp_path / "library" / "hpcfast").symlink_to(ROOT / "hpcfast")
    slurm.does("srun", writes("train-7.json"))
    slurm.env |= {"HPCFAST_HOME": str(tmp_path / "share"), "HPCFAST_LIBRARY": str(tmp_path / "library")}
    assert slurm.run("train.sh", "a.yaml").returncode == 0
    assert str(tmp_path / "library" / "hpcfast" / "cluster" / "rank.py") in slurm.told("srun")


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
