"""What else runs on a cluster is stopped and goes on, with the same result: evaluations, studies, arrays, chains."""

import json
import re

import pytest

from tests.slurm.conftest import ENDS, ROOT, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]
TRAINING = "shapes-fast-strong-2-seed"
STUDY = f"""
title: a try
strong: [2]
seeds: 2
data: [{{name: shapes, target: 0.9, global_batch: 4, methods: [{{name: fast, config: tiny.yaml}}]}}]
set: [{ENDS}, guard.every=0, evaluation.every=1, "schedule={{name: cosine}}"]
"""


def test_an_evaluation_that_is_stopped_resumes_with_the_same_numbers(strange: Cluster, undisturbed: str) -> None:
    attack = ("--attack", "pgd", "--steps", "40", "--restarts", "10", "evaluation.batch_size=1")
    whole = strange.submit("evaluate.sh", 1, f"runs/{undisturbed}", *attack, "--out", "whole")
    assert strange.end(whole) == "COMPLETED 0:0", strange.log(whole)
    job = strange.submit("evaluate.sh", 2, f"runs/{undisturbed}", *attack, "--out", "stopped")
    strange.until(lambda: list((strange.path / "stopped").rglob("progress-*")))
    strange.run("scancel", "--signal=USR2", job)
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert strange.state(job)["Restarts"] == "1", strange.log(job)
    numbers = [json.loads((strange.path / f"evaluate-{each}.json").read_text()) for each in (whole, job)]
    for key in ("clean_accuracy", "robust_accuracy", "n_eval"):
        assert numbers[0][key] == numbers[1][key]


def test_a_study_whose_job_is_stopped_has_the_same_run(strange: Cluster) -> None:
    """The last task of an array, which has the array's own number, goes on; the other is left alone."""
    for name in ("halted", "smooth"):
        (strange.path / f"{name}.yaml").write_text(STUDY)
    jobs = {}
    flags = ("--mem=1G", *strange.flags[:1])
    variables = {"SBATCH_ACCOUNT": "any", "SBATCH_MEM_PER_NODE": "2G"}
    for name in ("smooth", "halted"):
        first = strange.submit("scaling_study.sh", 1, f"{name}.yaml", flags=flags, **variables)
        assert strange.end(first) == "COMPLETED 0:0", strange.log(first)
        jobs[name] = re.findall(r"arrays? (\d+), then job (\d+)", strange.log(first))[0]
    run = f"../studies/halted/runs/{TRAINING}1"
    strange.until_trained(run)
    strange.run("scancel", "--signal=USR2", f"{jobs['halted'][0]}_2")
    for name in ("smooth", "halted"):
        assert strange.end(jobs[name][1]) == "COMPLETED 0:0", strange.log(jobs[name][1])
    assert strange.values(run, "run_interrupted")
    assert strange.weights(run) == strange.weights(run.replace("halted", "smooth"))
    logs = strange.path / "studies" / "halted" / "logs"
    said = [(logs / f"{TRAINING}{seed}.log").read_text() for seed in (0, 1)]
    assert [log.count("== start") for log in said] == [1, 2]
    assert all(re.search(r"^== end 0 \d+$", log, re.MULTILINE) for log in said)
    assert (strange.path / "studies" / "halted" / "report.html").is_file()
    assert "2 not converged" in strange.log(jobs["halted"][1])
    again = strange.run("hpcfast", "scaling", "run", "halted.yaml")
    assert "submitted" not in again, "what is done is not submitted again"


@pytest.mark.long
def test_the_next_task_of_an_array_goes_on_where_one_was_stopped(strange: Cluster, undisturbed: str) -> None:
    job = strange.train("array", 2, ENDS, flags=("--array=1-2%1",), HPCFAST_AGAIN="never")
    strange.until_trained("array")
    strange.run("scancel", "--signal=USR2", f"{job}_1")
    assert strange.end(f"{job}_1") == "FAILED 75:0"
    assert strange.end(f"{job}_2") == "COMPLETED 0:0", strange.log(f"{job}_2")
    assert strange.weights("array") == strange.weights(undisturbed)


def test_the_next_job_of_a_chain_goes_on_where_one_was_stopped(strange: Cluster, undisturbed: str) -> None:
    options = {"ntasks-per-node": 1, "cpus-per-task": 1, "mem": "2G", "account": "any"}
    flags = [word for name, value in options.items() for word in ("--sbatch", f"{name}={value}")]
    size = ("--nodes", "2", "--gpus-per-node", "0", "--time", "30")
    said = strange.run("hpcfast", "submit", "tiny.yaml", "name=sent", ENDS, *size, *flags, "--chain", "2")
    first, second = re.findall(r"\d+", said.splitlines()[0])
    assert strange.state(second)["Dependency"].startswith(f"afterany:{first}")
    strange.until_trained("sent")
    strange.run("scancel", "--signal=USR2", first)
    assert strange.end(first) == "FAILED 75:0", strange.log(first)
    assert strange.end(second) == "COMPLETED 0:0", strange.log(second)
    log = strange.path / re.findall(r"tail -F (\S+)", said)[0]
    assert "with a checkpoint, and not started again: HPCFAST_AGAIN=never" in log.read_text()
    assert strange.weights("sent") == strange.weights(undisturbed)


@pytest.mark.long
def test_data_that_are_staged_elsewhere_at_the_next_start_are_the_same(strange: Cluster) -> None:
    """Each job has a TMPDIR of its own, and the next one is another job."""
    strange.run("hpcfast", "data", "pack", "data", "packed")
    work = ("packed", "tiny.yaml", ENDS)
    whole = strange.submit("stage_and_train.sh", 2, *work, "name=staged")
    assert strange.end(whole) == "COMPLETED 0:0", strange.log(whole)
    job = strange.submit("stage_and_train.sh", 2, *work, "name=moved", HPCFAST_AGAIN="chain")
    strange.until_trained("moved")
    strange.run("scancel", "--signal=USR2", job)
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    (follower,) = re.findall("submitted job ([0-9]+)", strange.log(job))
    assert strange.end(follower) == "COMPLETED 0:0", strange.log(follower)
    assert strange.weights("moved") == strange.weights("staged")
    assert all(f"job.{number}" in strange.log(number) for number in (job, follower)), strange.log(follower)


SSH = """#!/bin/bash
# What horovodrun needs of ssh, [-o NAME=VALUE] HOST [-o NAME=VALUE] COMMAND, by Slurm.
while [ "$1" = -o ]; do shift 2; done
host=$1; shift
while [ "$1" = -o ]; do shift 2; done
exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" --mem=0 bash -c "$*"
"""


def test_horovodrun_between_nodes_trains_the_same(strange: Cluster, undisturbed: str) -> None:
    bin_ = strange.path / "ssh-bin"
    bin_.mkdir()
    (bin_ / "ssh").write_text(SSH)
    (bin_ / "ssh").chmod(0o755)
    command = f"exec horovodrun --gloo -np 2 -H n1:1,n2:1 hpcfast train tiny.yaml name=over-ssh {ENDS}"
    (strange.path / "over-ssh.sh").write_text(f'#!/bin/bash\nexport PATH="{bin_}:{ROOT}/.venv/bin:$PATH"\n{command}\n')
    size = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--nodelist=n[1-2]", *strange.flags)
    job = strange.run("sbatch", "--parsable", *size, "--output=%x-%j.log", "over-ssh.sh").strip()
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert strange.weights("over-ssh") == strange.weights(undisturbed)
