"""Runs explained by several ranks: the same numbers as by one, one picture."""

import json

import pytest

from tests.distributed.conftest import Playground

pytestmark = pytest.mark.distributed


def test_any_number_of_ranks_explains_alike(playground: Playground) -> None:
    job = playground.train(0, "explained", "attack.name=standard", "guard.every=0", "evaluation.every=0")
    assert job.code == 0, job.output
    found = []
    for ranks in (0, 2):  # batches of 2, shares of 5: the last batch is smaller
        job = playground.hpcfast(ranks, "explain", "runs/explained", "--images", "10", "evaluation.batch_size=2")
        assert job.code == 0, job.output
        assert job.output.count("picture: runs/explained/figures/explain.png") == 1
        found.append(json.loads((playground.path / "runs/explained/explain.json").read_text()))
    for name, value in found[0]["alignment"].items():
        other = found[1]["alignment"][name]
        assert (other["n"], value["n"]) == (10, 10)
        assert [other["mean"], *other["ci95"]] == pytest.approx([value["mean"], *value["ci95"]], abs=1e-5)
