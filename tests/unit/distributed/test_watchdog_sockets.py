"""The watchdog's real threads and sockets, and its settings."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpcfast.distributed.watchdog import Watchdog
from hpcfast.errors import UserError


def heard(dog: Watchdog) -> threading.Event:
    """An event set once ``dog`` knows of another rank."""
    event, handle = threading.Event(), dog._handle

    def spy(*arguments: Any) -> None:
        handle(*arguments)
        if dog.table():
            event.set()

    dog._handle = spy
    return event


@pytest.fixture
def together() -> Iterator[Callable[..., list[Watchdog]]]:
    """Start real watchdogs of one job, with threads and sockets."""
    dogs: list[Watchdog] = []

    def start(size: int, limit: float, end: Callable[[], object] = lambda: None) -> list[Watchdog]:
        dogs.extend(Watchdog(rank, size, "127.0.0.1", end) for rank in range(size))
        address = dogs[0].listen(limit)
        for dog in dogs:
            dog.start(address)
        return dogs

    yield start
    for dog in dogs:
        dog.stop()


def test_real_ranks_hear_one_another_and_leave(
    together: Callable[..., list[Watchdog]], capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    dogs = together(3, 30.0, lambda: ended.append(1))
    assert all(event.wait(60) for event in [heard(dog) for dog in dogs])
    for dog in (dogs[2], dogs[0], dogs[1]):
        dog.stop()
        assert dog._thread is not None
        assert not dog._thread.is_alive()
        assert not dog._unaware()
    assert not ended
    assert capsys.readouterr().err == ""


def test_a_real_rank_that_vanishes_ends_the_job(
    together: Callable[..., list[Watchdog]], capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()
    dogs = together(2, 0.6, over.set)
    dogs[1]._send = lambda kind, to: None  # from here on rank 1 is mute; its first beat is on its way
    assert over.wait(60)
    assert capsys.readouterr().err.startswith(f"rank 1 on host {socket.gethostname()} (pid {os.getpid()}, step 0)")


@pytest.mark.parametrize(("size", "limit"), [(1, 30.0), (2, 0.0)])
def test_one_rank_or_no_limit_starts_nothing(size: int, limit: float, together: Callable[..., list[Watchdog]]) -> None:
    before = threading.active_count()
    dogs = together(size, limit)
    assert threading.active_count() == before
    assert dogs[0].table() == ""


@pytest.mark.parametrize(("given", "limit"), [(None, 300), ("6", 6), ("0", 0), ("2.5", 2.5)])
def test_the_environment_sets_the_limit(given: str | None, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is None:
        monkeypatch.delenv("HPCFAST_STALL_SECONDS", raising=False)
    else:
        monkeypatch.setenv("HPCFAST_STALL_SECONDS", given)
    dog = Watchdog(0, 2)
    address = dog.listen()
    assert address.limit == limit
    assert "127.0.0.1" in address.hosts
    dog.stop()


@pytest.mark.parametrize("given", ["", "soon", "-1", "inf", "nan"])
@pytest.mark.parametrize("variable", ["HPCFAST_STALL_SECONDS", "HPCFAST_WARN_SECONDS"])
def test_a_wrong_limit_is_a_users_error(variable: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, given)
    dog = Watchdog(0, 2)
    with pytest.raises(UserError, match=f"{variable}={given}: give the seconds .* or 0"):
        dog.listen()
    dog.stop()
