"""A job that must stop before its work is done goes on in another, of a Slurm that is not there."""

import pytest

from tests.unit.cluster.conftest import ROOT, SHOW, Slurm, refuses


def test_a_job_that_was_stopped_is_requeued(slurm: Slurm) -> None:
    (slurm.path / "train-7.json").write_text("{}")  # of another job of this number
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 75
    assert slurm.told("scontrol") == ["requeue", "7"]
    assert "requeue, restart 1 of at most 20" in done.stdout
    assert not (slurm.path / "sbatch").exists()


def test_where_requeueing_is_forbidden_a_job_follows_with_all_that_this_one_was_given(slurm: Slurm) -> None:
    refuses(slurm, "Requested operation is presently disabled")
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
    assert "with a checkpoint, and not started again: job is COMPLETING" in done.stdout
