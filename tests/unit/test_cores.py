"""Which cores a rank computes on: shares, parts, and who may bind whom."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfast.distributed import cores
from hpcfast.distributed.cores import Cores, Told

HERE = socket.gethostname()
JOB = """
import sys
from hpcfast.distributed import cores
cores.CLAIM = sys.argv[1]
cores.settle(lambda told: [told, told], 0, bind=True)
print(flush=True)
sys.stdin.read()
"""
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="ranks of a machine with one core share it")


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not joined a job yet, and that has all its cores again afterwards."""
    before = os.sched_getaffinity(0)
    cores._release()
    monkeypatch.setattr(cores, "_given", frozenset())
    monkeypatch.setattr(cores, "CLAIM", f"test {os.getpid()}")  # other tests and jobs run beside this one
    yield
    cores._release()
    os.sched_setaffinity(0, before)


def settle(*others: Told, rank: int = 0, bind: bool = True) -> Cores:
    """Settle as ``rank`` among ``others``."""
    return cores.settle(lambda told: [*others[:rank], told, *others[rank:]], rank, bind)


def mine() -> list[int]:
    return sorted(os.sched_getaffinity(0))


@given(st.sets(st.integers(0, 300), min_size=1), st.data())
def test_parts_are_neighbours_and_nearly_equal(numbers: set[int], data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(numbers)))
    found = cores.parts(sorted(numbers), number)
    assert sorted(core for part in found for core in part) == sorted(numbers)
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert len(found) == number


def test_threads_of_a_core_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sockets of two cores of two threads, numbered as Linux does: 0 and 4 are one core."""
    for core in range(8):
        place = tmp_path / f"cpu{core}" / "topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text(f"{core % 4 // 2}\n")
        (place / "core_id").write_text(f"{core % 2}\n")
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path)
    assert cores.parts(list(range(8)), 2) == [[0, 4, 1, 5], [2, 6, 3, 7]]
    assert cores.parts(list(range(8)), 4) == [[0, 4], [1, 5], [2, 6], [3, 7]]


@two_cores
@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_may_use_the_same_cores_divide_them(rank: int) -> None:
    all_of_them = mine()
    share = settle((HERE, all_of_them), ("elsewhere", [0]), rank=rank)
    assert share == Cores(len(all_of_them) // 2, len(all_of_them))
    assert mine() == sorted(cores.parts(all_of_them, 2)[rank])


@two_cores
def test_ranks_of_a_socket_divide_that() -> None:
    """mpirun binds ranks to sockets where there are more than two of them."""
    all_of_them = mine()
    other = (HERE, [1000, 1001])
    assert settle(other, (HERE, all_of_them), other, rank=2) == Cores(len(all_of_them) // 2, len(all_of_them) + 2)
    assert mine() == cores.parts(all_of_them, 2)[1]


@two_cores
def test_every_thread_is_bound() -> None:
    """Horovod's thread is there already."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        settle((HERE, mine()))
        assert os.sched_getaffinity(thread.native_id or 0) == set(mine())
    finally:
        over.set()
        thread.join()


@two_cores
def test_joining_again_begins_with_all_cores() -> None:
    """Elastic jobs do, and the others may have gone."""
    all_of_them = mine()
    settle((HERE, all_of_them))
    assert len(mine()) < len(all_of_them)
    assert settle() == Cores(len(all_of_them), len(all_of_them))
    assert mine() == all_of_them


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([], id="alone"),
        pytest.param([("elsewhere", [0, 1])], id="alone on this machine"),
        pytest.param([(HERE, [1000])], id="each has its own"),
        pytest.param([(HERE, mine())] * 300, id="more ranks than cores"),
        pytest.param([(HERE, mine()), (HERE, mine()[:1])], id="another rank has one of them"),
    ],
)
def test_else_nobody_is_bound(others: list[Told]) -> None:
    before = mine()
    settle(*others)
    assert mine() == before


def test_a_gpus_ranks_are_not_bound() -> None:
    before = mine()
    settle((HERE, before), bind=False)
    assert mine() == before


@pytest.mark.parametrize(
    ("others", "fair", "together"),
    [([], 1.0, 0), ([(HERE, [1000, 1001])], 1.0, 2), ([(HERE, mine())] * 300, 0.0, 0), ([("elsewhere", [0])], 1.0, 0)],
)
def test_shares(others: list[Told], fair: float, together: int) -> None:
    own = len(mine())
    assert settle(*others) == Cores(max(1, int(own * fair)), own + together)


@two_cores
def test_another_jobs_cores_are_left_to_it() -> None:
    """Two jobs would else share one half of a machine; when one has ended, the next may bind."""
    before = mine()
    other = subprocess.Popen([sys.executable, "-c", JOB, cores.CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout
    other.stdout.readline()
    settle((HERE, before))
    assert mine() == before
    other.kill()
    other.communicate()
    settle((HERE, before))
    assert len(mine()) < len(before)
