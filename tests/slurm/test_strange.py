"""The strange cluster is as strange as it says: else tests on it would prove nothing."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import ROOT, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]


def srun(cluster: Cluster, command: str, *flags: str) -> list[str]:
    """The lines that ``command`` says on all tasks, sorted."""
    size = ("--nodes=1", "--time=1", "--account=any")
    return sorted(cluster.run("srun", *size, *flags, "bash", "-c", command).splitlines())


def sbatch(cluster: Cluster, command: str, *flags: str) -> str:
    return cluster.run("sbatch", "--parsable", "--account=any", "--time=1", *flags, f"--wrap={command}").strip()


def refusal(cluster: Cluster, *command: str) -> str:
    done = cluster.attempt(*command)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.fixture
def connected(strange: Cluster) -> Cluster:
    """The cluster where its nodes have networks of their own."""
    if not strange.networks:
        pytest.skip("nodes have networks of their own only as root, with iproute2")
    return strange


def test_a_nodes_full_name_leads_to_itself_only(connected: Cluster) -> None:
    names = srun(connected, "hostname; hostname --fqdn; hostname --ip-address", "--nodes=2")
    assert names == ["127.0.1.1"] * 2 + ["n1.strange.example"] * 2 + ["n2.strange.example"] * 2
    assert srun(connected, "getent hosts n2.strange.example", "--nodelist=n1") != ["127.0.1.1"]


def test_all_nodes_have_dockers_address(connected: Cluster) -> None:
    addresses = srun(connected, "ip -brief -4 address show docker0", "--nodes=2")
    assert [line.split()[-1] for line in addresses] == ["172.17.0.1/16"] * 2


def test_jobs_are_an_ordinary_users_with_a_blank_in_the_homes_name(strange: Cluster) -> None:
    uid, umask, home = srun(strange, "echo 1 $UID; echo 2 $(umask); echo 3 $HOME")
    assert " " in home[2:]
    assert umask == "2 0077"
    assert int(uid[2:]) == strange.path.stat().st_uid
    assert strange.run("pwd").strip() == str(strange.path)
    assert "hpcfast" in strange.run("hpcfast", "--help")


def test_each_task_has_a_temporary_folder_that_ends_with_the_job(strange: Cluster) -> None:
    found = srun(strange, "touch $TMPDIR/$SLURM_PROCID && echo $TMPDIR", "--ntasks=2")
    folder = Path(found[0])
    assert found == [str(folder)] * 2
    strange.until(lambda: not folder.exists(), 10)


def test_jobs_without_account_or_of_more_than_four_hours_are_refused(strange: Cluster) -> None:
    assert "Invalid account or account/partition" in refusal(strange, "sbatch", "--wrap=hostname")
    long = refusal(strange, "sbatch", "--account=any", "--time=5:00:00", "--wrap=hostname")
    assert "Requested time limit is invalid" in long


def test_jobs_get_the_processors_that_they_asked_for(strange: Cluster) -> None:
    assert srun(strange, "nproc") == ["1"]


def test_control_groups_hold_jobs_to_the_memory_and_gpus_that_they_asked_for(strange: Cluster) -> None:
    filled = "head --bytes=300M /dev/zero | tail --bytes=300M >/dev/null && echo filled"
    done = strange.attempt("srun", "--account=any", "bash", "-c", filled)
    assert ("filled" in done.stdout) == (strange.tracking == "linuxproc"), done.stderr
    assert ("oom" in done.stderr) == (strange.tracking == "cgroup"), done.stderr
    gpu = strange.daemons / "etc" / "gpu"
    if strange.tracking == "cgroup" and Path(f"{gpu}0").is_char_device():
        opened = srun(strange, f"cat {gpu}0 {gpu}1 2>&1 || true", "--gpus-per-node=1")
        assert [line.rsplit(": ", 1)[1] for line in opened] == ["No such device or address", "Operation not permitted"]


def test_with_control_groups_a_signal_reaches_only_slurmstepds_own_children(strange: Cluster) -> None:
    """A wrapper hears it, and what the wrapper started doesn't."""
    child = 'trap "echo child >>heard" USR2; echo ready >heard; while sleep 0.1; do :; done'
    wrapper = f"trap 'echo wrapper >>heard' USR2; bash -c {child!r} & while true; do wait; done"
    (strange.path / "wrapper.sh").write_text(wrapper)
    job = sbatch(strange, "srun bash wrapper.sh")
    heard = strange.path / "heard"
    strange.until(heard.exists, 10)
    strange.run("scancel", "--signal=USR2", job)
    strange.until(lambda: "wrapper" in heard.read_text(), 10)
    time.sleep(0.5)  # for the child, which looks every 0.1 s
    strange.run("scancel", job)
    assert ("child" in heard.read_text()) == (strange.tracking == "linuxproc")


def test_a_job_of_partition_low_gets_a_term_when_another_needs_its_nodes(strange: Cluster) -> None:
    step = "srun bash -c 'trap \"touch told\" TERM; touch begun; until [ -e leave ]; do sleep 0.1; done'"
    low = sbatch(strange, step, "--partition=low", "--nodes=4", "--exclusive")
    strange.until((strange.path / "begun").exists, 10)
    high = sbatch(strange, "hostname", "--partition=high", "--nodes=4", "--exclusive")
    strange.until((strange.path / "told").exists, 10)
    assert strange.state(low)["JobState"] == "RUNNING"  # of its 30 seconds of grace
    strange.run("touch", "leave")
    strange.run("scancel", low, high)


def test_jobs_of_partition_fixed_are_not_requeued(strange: Cluster) -> None:
    job = sbatch(strange, "sleep 60", "--partition=fixed", "--requeue")
    strange.until(lambda: strange.state(job)["JobState"] == "RUNNING", 20)
    assert "Requested operation is presently disabled" in refusal(strange, "scontrol", "requeue", job)
    strange.run("scancel", job)


def test_a_cluster_that_was_stopped_starts_again_in_its_folder(strange: Cluster) -> None:
    folder = strange.daemons.with_name("again")
    for _ in range(2):
        subprocess.run([ROOT / "scripts" / "start-test-cluster", folder, "1"], check=True, timeout=60)
        subprocess.run([ROOT / "scripts" / "stop-test-cluster", folder], check=True, timeout=60)
