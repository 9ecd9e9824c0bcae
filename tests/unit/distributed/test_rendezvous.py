"""Ranks that know only the name of their job step, and the job's secret, find rank 0 and share its table."""

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcfast.distributed import launcher, rendezvous, table
from hpcfast.distributed.secret import VARIABLE
from hpcfast.errors import UserError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    monkeypatch.setenv(VARIABLE, "secret of this test")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def meet(rank: int) -> int:
    """The port of this rank's proxy."""
    rendezvous.meet(launcher.Step(rank, 0, rank, (2,), "localhost", f"{os.getpid()}-{os.environ.get('SLURM_STEP_ID')}"))
    assert os.environ["HOROVOD_RANK"] == str(rank)
    assert os.environ["HOROVOD_GLOO_IFACE"] == "lo"
    return int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])


def gloo(port: int, method: str, path: str, value: bytes = b"") -> bytes | int:
    """What Gloo's client gets for a request; the status where it is none of success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, value)
    response = connection.getresponse()
    return response.read() if response.status == http.client.OK else response.status


def test_ranks_share_a_table() -> None:
    first, second = meet(0), meet(1)
    assert gloo(first, "GET", "/global/1") == http.client.NOT_FOUND
    assert gloo(second, "PUT", "/global/1", b"\0address") == b""
    assert gloo(first, "GET", "/global/1") == b"\0address"
    assert gloo(first, "DELETE", "/global/1") == b""
    assert gloo(second, "GET", "/global/1") == http.client.NOT_FOUND


def test_another_step_and_a_strange_server_on_the_same_ports_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PORTS", range(21000, 21000 + rendezvous.CANDIDATES))
    monkeypatch.setattr(table, "SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 21000))
        silent.listen()
        monkeypatch.setenv("SLURM_STEP_ID", "1")
        other = meet(0)
        monkeypatch.setenv("SLURM_STEP_ID", "2")
        mine, another = meet(0), meet(1)
    gloo(mine, "PUT", "/global/0", b"mine")
    assert gloo(another, "GET", "/global/0") == b"mine"
    assert gloo(other, "GET", "/global/0") == http.client.NOT_FOUND


def test_who_has_another_secret_is_not_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PORTS", range(21100, 21100 + rendezvous.CANDIDATES))
    meet(0)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.5)
    monkeypatch.setenv(VARIABLE, "secret of a stranger")
    with pytest.raises(ConnectionError, match=rf"what listens at port 211\d\d of .* does not know .*{VARIABLE}"):
        meet(1)


def test_a_rank_without_a_secret_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0, which may have one, would say nothing, and wait."""
    (tmp_path / "hpcfast").touch()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UserError, match="cannot be written or read"):
        meet(0)
    with pytest.raises(ConnectionError, match="cannot be written or read"):
        meet(1)


def test_a_secret_that_is_wrong_on_all_ranks_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    for rank in (0, 1):
        with pytest.raises(UserError, match="can be guessed"):
            meet(rank)


def test_ranks_with_secrets_of_their_own_are_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    meet(0)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.1)
    monkeypatch.setenv(VARIABLE, "secret of another home")
    with pytest.raises(ConnectionError, match=f"another secret .{VARIABLE}"):
        meet(1)


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
