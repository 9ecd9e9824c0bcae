"""``make bench`` on real ranks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import Bench, ranks, weak

pytestmark = pytest.mark.distributed


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    unused: Any = None
    return Bench(unused, tmp_path, short=True)


def test_ranks_send_gradients_with_each_engine_and_with_ddp(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "CASES", ranks.CASES[:1])
    rows = ranks.rows(bench)
    assert [row.ours.split(",")[0] for row in rows] == ["horovod", "torch", "ddp", "horovod", "torch"]
    assert all(0 < each.low <= each.median <= each.high for row in rows for each in (row.cpu, row.wall))
    alone, against = [row for row in rows if "sent" in row.peer], [row for row in rows if "sent" not in row.peer]
    assert {name for row in against for name in (row.ours, row.peer)} == {row.ours for row in alone}
    assert not list(bench.place.glob("*.part"))


def test_weak_scaling_is_compared_with_what_two_busy_cores_can_do(bench: Bench) -> None:
    whole, *parts = weak.rows(bench)
    assert all(0 < each.low <= each.median <= each.high for row in (whole, *parts) for each in (row.cpu, row.wall))
    assert (whole.ours, whole.peer) == (parts[-1].ours, parts[0].peer)
    assert all(one.ours == other.peer for one, other in pairwise(parts))
