"""Where the time of several ranks goes: traces, noise scale, and the benchmark of allreduces."""

import json
from typing import Any

import pytest

from tests.distributed.conftest import Job, Playground

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def profiled(playground: Playground) -> Job:
    """Two ranks, two epochs of 12 steps."""
    short = ("epochs=2", "data.batch_size=2", "evaluation.every=0", "guard.every=0", "ema=null")
    return playground.train(2, "profiled", *short, "--profile", str(playground.path / "traces"))


def events(playground: Playground, name: str) -> list[dict[str, Any]]:
    content = json.loads((playground.path / "traces" / name).read_text())
    return content["traceEvents"] if isinstance(content, dict) else content


def test_each_rank_leaves_a_trace_with_the_clocks_parts(profiled: Job, playground: Playground) -> None:
    assert profiled.code == 0, profiled.output[-3000:]
    for rank in range(2):
        names = [event.get("name") for event in events(playground, f"rank-{rank:04d}.json")]
        assert {"attack", "update", "communication", "data_wait"} <= set(names)
        assert names.count("attack") >= 5, "at least one a step"


def test_horovods_timeline_has_the_same_steps(profiled: Job, playground: Playground) -> None:
    text = (playground.path / "traces" / "horovod.json").read_text()
    assert "ALLREDUCE" in text
    assert "NEGOTIATE" in text


def test_the_summary_of_two_ranks_has_their_noise_scale(profiled: Job, playground: Playground) -> None:
    summary = json.loads((playground.path / "runs" / "profiled" / "summary.json").read_text())
    assert summary["noise_scale_measurements"] == summary["steps"] == 24
    assert summary["noise_scale"] is None or summary["noise_scale"] > 0
    assert summary["seconds"]["communication"] > 0
    assert sum(summary["seconds"].values()) == pytest.approx(summary["clock_seconds"])


def test_the_benchmark_measures_each_size_and_all_gradients(playground: Playground) -> None:
    out = playground.path / "allreduce.json"
    words = ["--model", "cifar_resnet8", "--repeats", "1", "--json", str(out)]
    job = playground.hpcfast(2, "bench", "allreduce", *words)
    assert job.code == 0, job.output[-3000:]
    found = json.loads(out.read_text())
    assert (found["ranks"], found["nodes"], found["n"]) == (2, 1, 1)
    assert [row["bytes"] for row in found["rows"][::2]] == [1024 * 4**power for power in range(9)]
    assert {row["compression"] for row in found["rows"]} == {"none", "fp16"}
    for row in found["rows"] + found["gradients"]:
        assert 0 < row["spread"][0] <= row["seconds"] <= row["spread"][1]
        assert row["bus_bandwidth"] == pytest.approx(row["bytes"] / row["seconds"])
    assert found["latency_seconds"] >= 0
    assert found["bytes_per_second"] > 0
    assert found["gradients"][0]["bytes"] == found["gradient_bytes"] > 0
