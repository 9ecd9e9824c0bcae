"""Ranks whose launcher gives them no way to meet say so once, instead of training one network each."""

import pytest

from tests.distributed.conftest import Playground
from tests.unit.distributed.test_batch_systems import FLUX, FLUX_ALONE, PBSDSH

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        (FLUX | {"FLUX_TASK_RANK": "0", "PMI_RANK": "0"}, "error: this is rank 0 of 4, but Horovod finds 1: "),
        (FLUX, ""),
        (FLUX_ALONE, ""),
        (PBSDSH, "error: pbsdsh starts processes that cannot find one another: "),
    ],
    ids=["flux run, rank 0", "flux run, rank 3", "without PMI, rank 3", "pbsdsh"],
)
def test_ranks_that_cannot_meet_do_not_train(
    environment: dict[str, str], error: str, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job = playground.train(0, "unmet")
    assert job.code == 2, job.output
    assert job.output.startswith(error)
    assert len(job.output.splitlines()) == bool(error), job.output
    assert not (playground.path / "runs" / "unmet").exists()
