"""The Python interface, called by every rank of a job."""

import json

import pytest

from tests.distributed.conftest import FORKED, TORCH, WORKERS, Playground

pytestmark = pytest.mark.distributed


def test_an_evaluation_is_the_same_on_any_number_of_ranks(playground: Playground) -> None:
    assert playground.train(1, "for-api").code == 0
    for ranks, launcher, own in ((0, FORKED, ()), (2, FORKED, ()), (3, TORCH, ("own",))):
        arguments = ("runs/for-api", "data", f"api-{ranks}.json", *own)
        job = playground.start(ranks, str(WORKERS / "api.py"), *arguments, launcher=launcher)
        assert job.code == 0, job.output[-3000:]
        images = 60 // max(ranks, 1) // 4 * 4
        assert all(f"ok {rank} {images}" in job.output for rank in range(max(ranks, 1))), job.output
    alone, two, three = (json.loads((playground.path / f"api-{ranks}.json").read_text()) for ranks in (0, 2, 3))
    assert alone == two == three
    assert len(alone[0]) == 21
