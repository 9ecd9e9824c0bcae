"""Ranks that a fault ends, on a Slurm that is not there: started again here, in another job, or not at all."""

import pytest

from hpcfast.cluster import slurm as commands
from tests.unit.cluster.conftest import SHOW, Slurm, writes

DONE = writes("train-7.json")


def fault(code: int = 137, node: str = "n2", saved: bool = False) -> str:
    """What srun does where the first rank that fails is on ``node``; none is named where it only lost the others."""
    return f"echo {code} 0 {node} >train-7.failed; {'touch $HPCFAST_SAVED; ' * saved}exit 143"


def starts(slurm: Slurm, *ends: str, answer: str = "n1 n2") -> None:
    """Have each start of the ranks end so, and the last of these all that follow; these nodes ``answer``."""
    cases = "".join(f"{number}) {end};;\n" for number, end in enumerate(ends[:-1]))
    slurm.does(
        "srun",
        f'[[ " $* " != *" --overlap "* ]] || {{ printf "%s\\n" {answer}; exit; }}\n'
        f'echo "$*" >>{slurm.path}/starts; case $(($(wc -l <{slurm.path}/starts) - 1)) in\n{cases}*) {ends[-1]};; esac',
    )


def history(slurm: Slurm, name: str) -> list[str]:
    file = slurm.path / name
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(autouse=True)
def scontrol(slurm: Slurm) -> None:
    slurm.does(
        "scontrol",
        f'echo "$*" >>{slurm.path}/asked; case "$1 $2" in "show hostnames") printf "%s\\n" n1 n2;;\n'
        f'"show job") cat {slurm.path}/job;; update*) kill -TERM $PPID;;\n'
        f'*) [[ -e {slurm.path}/excludes ]] || kill -TERM $PPID;; esac',
    )  # fmt: skip


def test_ranks_that_were_killed_start_again_in_the_same_job(slurm: Slurm) -> None:
    starts(slurm, fault(), DONE)
    done = slurm.run("train.sh", "a.yaml", "--overwrite")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "== ranks ended with code 137 on n2; started again in this allocation, restart 1 of at most 3" in done.stdout
    first, second = history(slurm, "starts")
    assert first.endswith("a.yaml --overwrite --json train-7.json")
    assert second.endswith("a.yaml --json train-7.json"), "what the first start has trained is not thrown away"
    assert not [*slurm.path.glob("train-7.failed"), *slurm.path.glob("train-7.saved")]


def test_restarts_without_progress_are_limited(slurm: Slurm) -> None:
    starts(slurm, *[fault()] * 3, fault(139, saved=True), fault())
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 137
    counted = [line.partition("restart ")[2][0] for line in done.stdout.splitlines() if "started again in" in line]
    assert counted == ["1", "2", "3", "1", "2", "3"], "progress sets the count back"
    assert "ranks ended with code 137 on n2, and 3 restarts have made no progress" in done.stdout
    assert "== FAILED with code 137" in done.stdout


@pytest.mark.parametrize("code", [2, 127, 130, 143])
def test_what_would_come_again_or_was_asked_for_is_no_fault(slurm: Slurm, code: int) -> None:
    starts(slurm, fault(code))
    assert slurm.run("train.sh", "a.yaml").returncode == code
    assert len(history(slurm, "starts")) == 1


def test_an_srun_that_refuses_is_not_started_again(slurm: Slurm) -> None:
    starts(slurm, "echo 'invalid MPI type' >&2; exit 1")
    assert slurm.run("train.sh", "a.yaml").returncode == 1
    assert len(history(slurm, "starts")) == 1


def test_ranks_that_were_killed_with_all_that_could_tell_start_again(slurm: Slurm) -> None:
    """A node that comes back ends what it takes for remains of the job's last start."""
    starts(slurm, "exit 137", DONE)
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "== ranks ended with code 137; started again in this allocation, restart 1 of at most 3" in done.stdout


def test_without_restarts_a_fault_ends_the_job(slurm: Slurm) -> None:
    slurm.env["HPCFAST_MAX_RESTARTS"] = "0"
    starts(slurm, fault(saved=True), DONE)
    assert slurm.run("train.sh", "a.yaml").returncode == 137


def test_a_cancelled_jobs_ranks_do_not_start_again(slurm: Slurm) -> None:
    (slurm.path / "job").write_text(SHOW.format(state="COMPLETING"))
    starts(slurm, fault(), DONE)
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 137
    assert "== ranks ended with code 137 on n2, and the job is COMPLETING" in done.stdout


def test_a_job_with_a_node_that_does_not_answer_is_requeued(slurm: Slurm) -> None:
    starts(slurm, fault(1, node=""), answer="n1")
    done = slurm.run("train.sh", "a.yaml")
    assert "== ranks ended with code 1; no answer from n2: requeue, restart 1 of at most 20" in done.stdout
    assert history(slurm, "asked")[-1] == "requeue 7", "Slurm itself does not use a node that is down"
    assert len(history(slurm, "starts")) == 1


def test_a_job_that_can_go_on_nowhere_ends_with_the_code_of_the_rank(slurm: Slurm) -> None:
    slurm.env["HPCFAST_AGAIN"] = "never"
    starts(slurm, fault(139), answer="n1")
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 139
    assert "HPCFAST_AGAIN=never" in done.stdout
    assert "== FAILED with code 139" in done.stdout


def test_a_node_with_too_many_faults_is_left_out(slurm: Slurm) -> None:
    (slurm.path / "excludes").touch()
    slurm.env["HPCFAST_EXCLUDE_AFTER"] = "2"
    starts(slurm, fault(1, "n1", saved=True), fault(1, "", saved=True), fault(saved=True))
    done = slurm.run("train.sh", "a.yaml")
    assert len(history(slurm, "starts")) == 4, "a rank that only lost the others does not count"
    assert "== ranks ended with code 137 on n2: requeue, restart 1 of at most 20, without n2" in done.stdout
    assert history(slurm, "asked")[-2:] == ["requeue 7", "update JobId=7 ExcNodeList=n7,n2"]


def test_a_following_job_leaves_it_out_too(slurm: Slurm) -> None:
    slurm.env.update(HPCFAST_EXCLUDE_AFTER="1", HPCFAST_AGAIN="chain")
    starts(slurm, fault(1, node=""), answer="n2")
    done = slurm.run("train.sh", "a.yaml")
    assert done.returncode == 0, done.stdout
    assert "--exclude=n7,n1" in slurm.told("sbatch")


def test_near_the_time_limit_the_job_is_requeued(slurm: Slurm) -> None:
    """The ranks may have had the signal that comes before the limit; new ones would not get it."""
    (slurm.path / "job").write_text(SHOW.format(state="RUNNING") + "   EndTime=2020-02-02T02:02:02\n")
    starts(slurm, fault(), DONE)
    assert "requeue, restart 1 of at most 20" in slurm.run("train.sh", "a.yaml").stdout


def test_a_probe_that_hangs_tells_who_answers(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.does("srun", "echo n1; exec sleep 600")
    monkeypatch.setenv("PATH", str(slurm.path / "bin"), prepend=":")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    assert commands.silent_nodes(1.0) == ["n2"]
