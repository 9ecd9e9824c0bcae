"""``make bench`` on real ranks."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import Bench, ranks


@pytest.mark.distributed
def test_ranks_send_gradients_with_horovod_and_with_ddp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    unused: Any = None
    rows = ranks.rows(Bench(unused, tmp_path, short=True))
    assert [row.ours.split(",")[0] for row in rows] == ["horovod", "ddp", "horovod"]
    assert all(0 < each.low <= each.median <= each.high for row in rows for each in (row.cpu, row.wall))
    assert rows[2].wall.median == pytest.approx(rows[0].wall.median / rows[1].wall.median)
    assert not list(tmp_path.glob("*.part"))
