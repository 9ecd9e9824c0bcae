"""``hpcfast eval`` on real ranks: one answer on any number of them, and after kills."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import PLAIN, WORKERS, Playground

pytestmark = pytest.mark.distributed
KILLS = Path(__file__).parents[2] / "campaigns" / "kill_evaluations.py"
VAL_IMAGES = 21


@pytest.fixture(scope="module")
def trained(playground: Playground) -> str:
    job = playground.train(1, "to-evaluate")
    assert job.code == 0, job.output
    return "runs/to-evaluate"


def measured(playground: Playground, ranks: int, run: str, *options: str) -> dict[str, Any]:
    """The result of an evaluation that finds none of the others'."""
    out = playground.path / f"evaluations-on-{ranks}"
    job = playground.hpcfast(ranks, "eval", run, *options, "--out", str(out), "--json", f"eval-{ranks}.json")
    assert job.code == 0, job.output
    assert job.output.count("robust_accuracy") == 1
    result = json.loads((playground.path / f"eval-{ranks}.json").read_text())
    table = (next(out.iterdir()) / "images.csv").read_text()
    return {k: v for k, v in result.items() if k not in ("seconds", "world_size")} | {"table": table}


def test_evaluation_is_the_same_on_any_number_of_ranks(playground: Playground, trained: str) -> None:
    options = ["--steps", "4", "--restarts", "3", "--curve", "0.3,0.6"]
    alone, three = (measured(playground, ranks, trained, *options) for ranks in (0, 3))
    assert alone["n_eval"] == VAL_IMAGES
    assert alone["attack"]["steps"] == 4
    assert len(alone["stages"]) == 9
    assert three == alone


def test_memory_that_runs_out_on_one_rank_changes_nothing(playground: Playground) -> None:
    job = playground.start(2, str(WORKERS / "memory.py"), str(playground.config))
    assert (job.code, job.output.count("ok halved on 2")) == (0, 2), job.output[-3000:]


def test_killed_evaluations_end_as_if_nothing_had_happened(playground: Playground) -> None:
    job = playground.start(0, str(KILLS), "--kills", "3", launcher=PLAIN)
    assert job.code == 0, job.output
    assert "3 kills" in job.output


def test_corruptions_are_the_same_on_any_number_of_ranks(playground: Playground, trained: str) -> None:
    done = playground.hpcfast(0, "data", "corrupt", "data", "--out", "corrupted")
    assert done.code == 0, done.output
    for folder in (playground.path / "corrupted").iterdir():
        if folder.is_dir() and folder.name not in ("contrast", "shot_noise"):
            shutil.rmtree(folder)
    results = []
    for ranks in (0, 2):
        file = f"corruptions-{ranks}.json"
        job = playground.hpcfast(ranks, "eval", trained, "--corruptions", "corrupted", "--json", file)
        assert job.code == 0, job.output
        results.append(json.loads((playground.path / file).read_text()))
    assert results[0] == results[1]
    assert [row["n"] for row in results[0]["rows"]] == [VAL_IMAGES] * 10


def test_a_wrong_question_ends_all_ranks_with_one_message(playground: Playground, trained: str) -> None:
    job = playground.hpcfast(2, "eval", trained, "--eps", "0")
    assert job.code == 2, job.output
    assert job.output.count("error: ") == 1
    assert "--eps 0: " in job.output
    assert "Traceback" not in job.output
