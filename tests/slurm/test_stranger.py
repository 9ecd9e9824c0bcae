"""Jobs on a cluster as sites are: signals reach the ranks, nodes find one another, work goes on as it was given.

Under control groups Slurm gives a signal to its own children only, and nodes know their own names as 127.0.1.1.
"""

import re
import time
from random import Random

import pytest

from tests.slurm.conftest import ENDS, ROOT, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def preempt(strange: Cluster) -> str:
    """The number of a short job that Slurm takes the nodes of jobs of partition low for."""
    flags = ("--partition=high", "--nodes=2", "--exclusive", "--nodelist=n[1-2]", "--time=1", *strange.flags[:1])
    return strange.run("sbatch", "--parsable", *flags, "--wrap=hostname").strip()


def stopped_whole(strange: Cluster, name: str) -> bool:
    """Whether a run has said that it was stopped, which it does after its checkpoint."""
    return bool(strange.values(name, "run_interrupted"))


@pytest.mark.parametrize("number", ["USR2", pytest.param("TERM", marks=pytest.mark.long)])
def test_a_signal_stops_the_ranks_with_a_checkpoint_and_the_job_is_requeued(
    strange: Cluster, undisturbed: str, number: str
) -> None:
    job = strange.train(number, 2, ENDS)
    strange.until_trained(number)
    strange.run("scancel", f"--signal={number}", job)
    began = time.monotonic()
    strange.until(lambda: stopped_whole(strange, number), 60)
    print(f"stopped with a checkpoint after {time.monotonic() - began:.1f} s")
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert strange.state(job)["Restarts"] == "1"
    assert f"0: going on with runs/{number} after epoch" in strange.log(job)
    assert strange.weights(number) == strange.weights(undisturbed)


def test_scancel_leaves_a_checkpoint_and_frees_the_nodes(strange: Cluster, undisturbed: str) -> None:
    job = strange.train("cancelled", 2, ENDS)
    strange.until_trained("cancelled")
    strange.run("scancel", job)
    began = time.monotonic()
    assert strange.end(job).startswith("CANCELLED")
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert stopped_whole(strange, "cancelled")
    assert "with a checkpoint, and not started again: job is " in strange.log(job)
    again = strange.train("cancelled", 2, ENDS)
    assert strange.end(again) == "COMPLETED 0:0", strange.log(again)
    assert strange.weights("cancelled") == strange.weights(undisturbed)


def test_a_preempted_job_goes_on_when_its_nodes_are_free_again(strange: Cluster, undisturbed: str) -> None:
    job = strange.train("preempted", 2, ENDS, flags=("--partition=low", "--nodelist=n[1-2]"))
    strange.until_trained("preempted")
    other = preempt(strange)
    strange.until(lambda: stopped_whole(strange, "preempted"), 60)
    assert strange.end(other) == "COMPLETED 0:0"
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert strange.state(job)["Restarts"] == "1"
    assert strange.weights("preempted") == strange.weights(undisturbed)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_preemptions_at_random_moments_change_nothing(strange: Cluster) -> None:
    epochs, random = "epochs=600", Random(0)
    flags = ("--partition=low", "--nodelist=n[1-2]")
    assert strange.end(strange.train("quiet", 2, epochs, flags=flags), 1200) == "COMPLETED 0:0"
    job = strange.train("harried", 2, epochs, flags=flags, HPCFAST_MAX_REQUEUES="99")
    for number in range(1, 21):
        strange.until_trained("harried", random.randint(1, 20))
        preempt(strange)
        strange.until(lambda number=number: int(strange.state(job)["Restarts"]) >= number)
    assert strange.end(job, 1200) == "COMPLETED 0:0", strange.log(job)
    print(f"{strange.state(job)['Restarts']} restarts")
    assert strange.weights("harried") == strange.weights("quiet")


def test_where_requeueing_is_forbidden_a_job_follows_that_is_given_the_same(strange: Cluster, undisturbed: str) -> None:
    flags = ("--partition=fixed", "--comment=for a = b", "--exclude=n4", "--time=20")
    job = strange.train("chained", 2, ENDS, flags=flags)
    strange.until_trained("chained")
    strange.run("scancel", "--signal=USR2", job)
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    (follower,) = re.findall("submitted job ([0-9]+)", strange.log(job))
    assert strange.end(follower) == "COMPLETED 0:0", strange.log(follower)
    before, after = strange.state(job), strange.state(follower)
    kept = ("Account", "Partition", "ExcNodeList", "Comment", "TimeLimit", "MinMemoryNode", "NumNodes", "NumTasks")
    assert {key: after.get(key) for key in kept} == {key: before.get(key) for key in kept}
    assert before["Comment"].startswith("for a")
    assert "start 2" in strange.log(follower)
    assert strange.weights("chained") == strange.weights(undisturbed)


@pytest.mark.slow
@pytest.mark.long
def test_before_the_time_limit_a_job_is_stopped_and_requeued(strange: Cluster) -> None:
    assert strange.end(strange.train("unlimited", 2, "epochs=400"), 1800) == "COMPLETED 0:0"
    flags = ("--time=1", "--signal=USR2@15")
    job = strange.train("limited", 2, "epochs=400", flags=flags, HPCFAST_MAX_REQUEUES="60")
    assert strange.end(job, 1800) == "COMPLETED 0:0", strange.log(job)
    assert int(strange.state(job)["Restarts"]) > 0
    assert strange.weights("limited") == strange.weights("unlimited")


def test_without_the_variables_of_the_login_node_a_job_is_the_same(strange: Cluster, undisturbed: str) -> None:
    """Many sites set --export=NONE for everybody: slurm/site.sh of the checkout is read, which activates its .venv."""
    job = strange.train("bare", 2, ENDS, flags=("--export=NONE",))
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert f"== site {ROOT}/slurm/site.sh" in strange.log(job)
    assert strange.weights("bare") == strange.weights(undisturbed)


def test_torchs_ranks_find_one_another_too(strange: Cluster, undisturbed: str) -> None:
    """Though their nodes know themselves as 127.0.1.1, and all have docker0's address."""
    job = strange.train("by-torch", 2, ENDS, "engine=torch")
    assert strange.end(job) == "COMPLETED 0:0", strange.log(job)
    assert strange.weights("by-torch") == strange.weights(undisturbed)


def test_gpus_that_torch_cannot_see_are_an_error_and_no_training_on_cpus(strange: Cluster) -> None:
    job = strange.train("blind", 2, flags=("--gpus-per-node=1",))
    assert strange.end(job) == "FAILED 2:0", strange.log(job)
    assert strange.log(job).count("Slurm has given this job 1 GPUs on n1") == 1
    assert not (strange.path / "runs" / "blind").exists()


@pytest.mark.parametrize(
    "request_", ["--gres=gpu:2", "--gres=gpu:a100:2", "--gpus=2", "--gpus-per-task=1", "--gpus-per-node=a100:2"]
)
def test_each_way_to_ask_for_gpus_gives_one_rank_one_gpu(strange: Cluster, request_: str) -> None:
    """The ranks cannot use them here; each says what it was given."""
    show = "echo rank $SLURM_PROCID of $SLURM_NTASKS sees ${CUDA_VISIBLE_DEVICES:-none}; exit 75 #"
    site = strange.path / f"site-{request_.strip('-').replace(':', '-')}.sh"
    site.write_text(
        f"{(strange.path / 'site.sh').read_text()}HPCFAST_AGAIN=never HPCFAST_CONTAINER=(bash -c {show!r})\n"
    )
    tasks = "--ntasks-per-node=2" if "task" in request_ else "--ntasks-per-node=1"
    size = ("--nodes=1", tasks, "--cpus-per-task=1", *strange.flags, request_)
    command = ("sbatch", "--parsable", *size, "slurm/train.sh", "tiny.yaml")
    job = strange.run(*command, HPCFAST_SITE=str(site)).strip()
    assert strange.end(job) == "FAILED 75:0", strange.log(job)
    seen = sorted(re.findall(r"rank (\d) of (\d) sees (\S+)", strange.log(job)))
    assert [(rank, size) for rank, size, _ in seen] == [("0", "2"), ("1", "2")]
    assert {devices for _, _, devices in seen} == {"0,1"}
