"""``make bench``: every stage runs, its rows are complete, and the page says what was measured."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    Bench,
    __main__,
    allreduce,
    convergence,
    evaluation,
    loader,
    ours,
    peers,
    step,
    table,
    training,
)
from benchmarks.table import Row
from hpcfast.bench import Spread, Taken, take_turns
from hpcfast.datasets.generate import Recipe, drawn

ROW = Row("ours", "a peer", Spread(0.5, 0.4, 0.625), Spread(0.75, 0.5, 1.0), 3, "luck", 0.25, 0.8)
ABOUT: dict[str, Any] = {
    "title": "A stage", "about": "What it is.", "short": False, "busy": True, "others": 0.5,
    "date": "2026-11-23", "machine": "2 cores", "version": "abc",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    place, recipe = tmp_path_factory.mktemp("bench"), Recipe(16, 4, (96, 72))
    for split, count in recipe.counts().items():  # here, since the pool that writes photographs takes seconds to start
        for i in range(count):
            target = place / "photos" / split / f"class{i * 4 // count}"
            target.mkdir(parents=True, exist_ok=True)
            drawn(recipe, split, i, i * 4 // count).save(target / f"{i}.jpg")
    return Bench(world, place, short=True)


@pytest.mark.parametrize("stage", [step, loader, evaluation, training, convergence])
def test_each_stage_compares_ours_with_peers(stage: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.place)
    rows = stage.rows(bench)
    assert rows
    assert all("hpcfast" in row.ours and row.ours != row.peer and row.rest and row.n for row in rows)
    assert all(0 < each.low <= each.median <= each.high for row in rows for each in (row.cpu, row.wall))


@pytest.mark.parametrize("kind", [peers.Peer, peers.Robustness])
def test_peers_train_and_their_attacks_stay_in_the_ball(kind: type[peers.Peer]) -> None:
    config = ours.config("cifar_resnet8", {"width": 2}, 8, 4)
    peer, x, y = kind(config, 3, torch.device("cpu")), torch.rand(4, 3, 8, 8), torch.arange(4) % 3
    for attack in (peer.reference, peer.torchattacks(1), peer.foolbox(2)):
        delta = attack(x, y) - x
        assert delta.flatten(1).norm(dim=1).min() > 0.1
        assert delta.flatten(1).norm(dim=1).max() < 1.0001 * peer.eps
    before = [weight.detach().clone() for weight in peer.model.parameters()]
    if isinstance(peer, peers.Robustness):
        peer.train(x, y, 2)
    else:
        peer.step(x, y, peer.reference)
    assert all((now != then).any() for now, then in zip(peer.model.parameters(), before, strict=True) if then.dim() > 1)


def test_the_reference_way_computes_gradients_of_weights_and_does_not_train_on_them() -> None:
    config = ours.config("cifar_resnet8", {"width": 2}, 8, 4)
    peer, x, y = peers.Peer(config, 3, torch.device("cpu")), torch.rand(4, 3, 8, 8), torch.arange(4) % 3
    peer.reference(x, y)
    assert all(weight.grad is not None for weight in peer.model.parameters())


def test_ratios_are_of_the_same_round() -> None:
    taken = {"a": [Taken(1, 1), Taken(8, 2), Taken(3, 3)],
             "b": [Taken(2, 2), Taken(8, 8), Taken(1, 1)]}  # fmt: skip
    row = table.compare(taken, "a", "b", "chance", limit=0.1)
    assert row.wall == Spread(1.0, 0.5, 3.0)
    assert row.cpu == Spread(0.5, 0.25, 3.0)
    assert (row.n, row.limit, row.asked) == (3, 0.1, None)


def test_time_counts_work_of_threads_and_rounds_are_interleaved() -> None:
    order: list[str] = []
    taken = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab", "the first round warms up"
    assert [len(rounds) for rounds in taken.values()] == [2, 2]


def test_a_table_survives_the_disk_and_says_that_the_machine_was_busy(tmp_path: Path) -> None:
    table.save(tmp_path / "deep" / "stage.json", ABOUT, [ROW])
    assert table.load(tmp_path / "deep" / "stage.json") == (ABOUT, [ROW])
    text = table.markdown([(ABOUT, [ROW]), ({**ABOUT, "busy": False, "title": "Another"}, [])])
    assert "| ours | a peer | 0.50 (0.40-0.62) | 0.75 (0.50-1.00) | 0.25 | 0.80 | 3 | luck |" in text
    assert text.count("busy machine: other processes took 50% of its cores when it began") == 1
    assert "### Another" in text


def test_allreduces_are_compared_by_wall_time(tmp_path: Path) -> None:
    gradients = [{"seconds": 0.4, "spread": [0.2, 0.8]}, {"seconds": 0.3, "spread": [0.2, 0.4]}]
    rows = allreduce.compared({
        "gradients": gradients, "n": 5,
        "latency_seconds": 0.1, "gradient_bytes": 100, "bytes_per_second": 1000,
    })  # fmt: skip
    assert [row.wall for row in rows] == [
        pytest.approx((0.75, 0.25, 2)), pytest.approx((2, 1, 4))
    ]  # fmt: skip
    table.save(tmp_path / "stage.json", ABOUT, rows)
    assert table.load(tmp_path / "stage.json")[1] == rows
    assert "|  | 0.75 (0.25-2.00) | 0.50 |  | 5 |" in table.markdown([(ABOUT, rows)])


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\n### One\nold\n\n### Two\nstays\n{table.END}\nafter\n")
    table.insert(page, "### One\nnew\n\n### Three\nadded")
    tables = "### One\nnew\n\n### Two\nstays\n\n### Three\nadded"
    assert page.read_text() == f"before\n{table.BEGIN}\n\n{tables}\n\n{table.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match=r"page\.md lacks the lines"):
        table.insert(page, "### One\nnew")
    assert page.read_text() == "no markers"


def test_a_stage_that_was_measured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, out = tmp_path / "speed.md", tmp_path / "out"
    page.write_text(f"{table.BEGIN}\n{table.END}\n")
    table.save(out / "step.json", ABOUT, [ROW])
    words = ["--only", "step", "--out", str(out), "--page", str(page)]
    __main__.main(words)
    assert "measured before" in capsys.readouterr().out
    assert "| luck |" in page.read_text()
    assert json.loads((out / "speed.json").read_text())[0]["rows"][0]["cpu"] == [0.5, 0.4, 0.625]
    (out / "step.json").unlink()
    monkeypatch.setattr(step, "rows", lambda bench: [ROW, ROW])
    __main__.main([*words, "--short"])
    assert json.loads((out / "step.json").read_text())["short"]
    assert page.read_text().count("| luck |") == 1, "a short run writes no page"


def test_the_version_tells_changes_from_the_page_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert __main__.version() == "unknown"
    files = [tmp_path / "code.py", tmp_path / "docs" / "speed.md"]
    files[1].parent.mkdir()
    for file in files:
        file.write_text("before")
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], check=True)
    commit = __main__.version()
    assert commit.isalnum()
    files[1].write_text("measured")
    assert __main__.version() == commit
    files[0].write_text("changed")
    assert __main__.version() == commit + "+"


def test_the_page_in_the_repository_can_be_written(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    before = (Path(__file__).parents[2] / "docs" / "speed.md").read_text()
    page.write_text(before)
    table.insert(page, "### New\nlast")
    assert page.read_text() == before.replace(f"\n\n{table.END}", f"\n\n### New\nlast\n\n{table.END}")
