"""Ranks that know only the name of their job step find the port of rank 0."""

import os
import socket
from collections.abc import Iterator

import pytest

from hpcfast.distributed import launcher, rendezvous
from hpcfast.errors import UserError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def meet(rank: int) -> str:
    rendezvous.meet(launcher.Step(rank, 0, rank, (2,), "localhost"))
    assert os.environ["HOROVOD_RANK"] == str(rank)
    assert os.environ["HOROVOD_GLOO_IFACE"] == "lo"
    return os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"]


def test_ranks_meet_at_one_port() -> None:
    assert meet(0) == meet(1)


def test_another_step_and_a_strange_server_on_the_same_ports_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PORTS", range(21000, 21000 + rendezvous.CANDIDATES))
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    other = meet(0)
    with socket.socket() as silent:
        silent.bind(("", min(set(rendezvous.PORTS) - {int(other)})))
        silent.listen()
        monkeypatch.setattr(rendezvous, "SECONDS", 0.1)
        monkeypatch.setenv("SLURM_STEP_ID", "2")
        mine = meet(0)
        assert mine not in (other, str(silent.getsockname()[1]))
        assert meet(1) == mine


def test_where_rank_0_never_comes_the_others_say_where_they_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_ID", "9")
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.1)
    with pytest.raises(
        ConnectionError, match=r"has not found rank 0 within .* at 127\.0\.0\.1, ports .*srun --mpi=pmix"
    ):
        meet(1)


def test_without_a_free_port_rank_0_says_which_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(rendezvous, "PORTS", range(port, port + 1))
        monkeypatch.setattr(rendezvous, "CANDIDATES", 1)
        with pytest.raises(UserError, match=f"ports {port} of .* are all taken"):
            meet(0)


def test_process_sets_listen_where_the_job_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCFAST_GLOO_ADDRESS", "192.0.2.1")
    monkeypatch.setenv("HOROVOD_GLOO_IFACE", "nowhere0")
    rendezvous.listen_there()
    assert "HPCFAST_GLOO_ADDRESS" not in os.environ
    monkeypatch.setenv("HOROVOD_GLOO_IFACE", "lo")
    rendezvous.listen_there()
    assert os.environ["HPCFAST_GLOO_ADDRESS"] == "127.0.0.1"
