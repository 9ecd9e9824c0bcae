"""Rounds of an evaluation: who enters each, in what batches, and what a journal brings back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hpcfast.attacks.norms import L2, Ball
from hpcfast.attacks.rng import Source
from hpcfast.config import Check, RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.evaluation import _legs, attacked, evaluate, rounds, shared_out
from hpcfast.evaluation.outcomes import NEVER, Journal, Outcomes, Record, Round
from tests.unit.evaluation.test_evaluate import Brightness
from tests.unit.whole_runs import Killed, at_call, die

Tiny = Callable[..., RunConfig]


@pytest.fixture
def val(tiny: Tiny) -> Split:
    return read_splits(tiny().data.path)[1]


class Fooler:
    """Paints images black or white, so that ``Brightness`` is wrong, with the probability ``chance``."""

    def __init__(self, chance: float) -> None:
        self.chance, self.seen = chance, []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        assert not isinstance(source, torch.Generator)
        self.seen.append(len(x))
        chosen = torch.stack([torch.rand((), generator=each) for each in source]) < self.chance
        other = (1 - y).clamp_min(0).float().view(-1, 1, 1, 1).expand_as(x)
        return torch.where(chosen.view(-1, 1, 1, 1), other, x)


def planned(*foolers: Fooler) -> list[Round]:
    return [Round(f"try {number}", L2(0.5), fooler) for number, fooler in enumerate(foolers)]


def run(config: RunConfig, split: Split, world: World, foolers: list[Fooler], **kwargs: Any) -> Outcomes:
    return attacked(Brightness(), split, np.arange(12), planned(*foolers), config, world, **kwargs)


def test_a_round_attacks_only_what_stood_until_then(tiny: Tiny, val: Split, world: World) -> None:
    foolers = [Fooler(0.5), Fooler(0.5), Fooler(0.5)]
    outcomes = run(tiny("evaluation.batch_size=3"), val, world, foolers)
    right = outcomes.clean == val.labels
    for number, fooler in enumerate(foolers):
        assert sum(fooler.seen) == (right & (outcomes.fooled >= number)).sum()
    assert 0 < (outcomes.fooled == 0).sum() < right.sum()
    assert (outcomes.fooled[~right] == NEVER).all()


def test_a_later_round_comes_in_full_batches_again(tiny: Tiny, val: Split, world: World) -> None:
    foolers = [Fooler(0.5), Fooler(0.0)]
    run(tiny("evaluation.batch_size=4"), val, world, foolers)
    assert len(foolers[1].seen) < len(foolers[0].seen)
    assert max(foolers[1].seen) - min(foolers[1].seen) <= 1, "batches of about equal sizes"


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_every_image_has_one_rank_and_all_ranks_as_many_batches(
    tiny: Tiny, val: Split, size: int, batch_size: int
) -> None:
    ids = np.array([0, 1, 3, 4, 7, 8, 11])
    shares = [list(shared_out(val, ids, batch_size, tiny(), World(rank, size, 0, 1))) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(index for share in shares for batch in share for index in batch.ids.tolist()) == ids.tolist()
    assert all(len(batch.ids) <= batch_size for share in shares for batch in share)
    counts = [sum(len(batch.ids) for batch in share) for share in shares]
    assert max(counts) - min(counts) <= 1, "no rank idles"


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_killed_evaluation_ends_as_one_that_was_not(
    tiny: Tiny, val: Split, world: World, tmp_path: Path, call: int
) -> None:
    config = tiny("evaluation.batch_size=4")
    whole_run = [Fooler(0.4), Fooler(0.3)]
    whole = run(config, val, world, whole_run)
    killed, again, journal = [Fooler(0.4), Fooler(0.3)], [Fooler(0.4), Fooler(0.3)], Journal(tmp_path, 0)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, Journal, "write", call, die)
        with pytest.raises(Killed):
            run(config, val, world, killed, journal=journal)
    resumed = run(config, val, world, again, journal=journal)
    assert all(np.array_equal(getattr(resumed, key), getattr(whole, key)) for key in ("clean", "predicted", "fooled"))
    twice = [sum(len(each.seen) for each in foolers) for foolers in (killed, again, whole_run)]
    assert twice[0] + twice[1] <= twice[2] + 1, "only the batch that was not noted is attacked again"


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40])
def test_images_are_dealt_anew_after_rounds_1_2_4_8(count: int) -> None:
    legs = list(_legs(count))
    assert [number for leg in legs for number in leg] == list(range(count))
    assert [leg.start for leg in legs] == [start for start in (0, 1, 2, 4, 8, 16, 32) if start < count]


def test_a_share_that_is_done_in_part_is_read_in_as_many_batches(tiny: Tiny, val: Split) -> None:
    config, left = tiny(), np.array([3, 4, 6, 7, 8, 10, 11])
    found = []
    for rank in range(3):
        batches = list(shared_out(val, np.arange(12), 2, config, World(rank, 3, 0, 1), left=left))
        assert len(batches) == 2
        found += [index for batch in batches for index in batch.ids.tolist()]
    assert found == left.tolist()


def test_a_torn_line_costs_its_own_batch_only(tmp_path: Path) -> None:
    records = [Record(0, [0, 1], [0, 1], [1, 1]), Record(0, [2], [2], [2]), Record(1, [2], [2], [0])]
    for record in records[:2]:
        Journal(tmp_path, 0).write(record)
    file = tmp_path / "progress-0.jsonl"
    file.write_bytes(file.read_bytes()[:-3])
    Journal(tmp_path, 0).write(records[2])
    Journal(tmp_path, 17).write(records[1])
    found = Journal(tmp_path, 5).read()
    assert sorted(found) == sorted([records[0], records[2], records[1]])
    assert [record.round for record in found] == [0, 0, 1]
    Journal(tmp_path, 0).remove()
    assert Journal(tmp_path, 0).read() == []


def test_a_journal_ignores_lines_that_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "progress-3.jsonl").write_text('\n[1, 2]\n{"a": 1}\nnull\n12\n"words"\n')
    assert Journal(tmp_path, 0).read() == []


def test_images_that_fooled_the_model_are_kept(tiny: Tiny, val: Split, world: World, tmp_path: Path) -> None:
    kept_in = tmp_path / "kept"
    kept_in.mkdir()
    outcomes = run(tiny("evaluation.batch_size=5"), val, world, [Fooler(0.5), Fooler(0.5)], keep=kept_in)
    kept = [load_file(path) for path in sorted(kept_in.iterdir())]
    ids = torch.cat([each["ids"] for each in kept])
    assert sorted(ids.tolist()) == np.flatnonzero(outcomes.fooled != NEVER).tolist()
    predicted = Brightness()(torch.cat([each["images"] for each in kept])).argmax(1)
    assert torch.equal(predicted, torch.cat([each["predicted"] for each in kept]))
    assert (predicted.numpy() != val.labels[ids.numpy()]).all()


def test_progress_is_the_work_of_all_rounds(tiny: Tiny, val: Split, world: World) -> None:
    done: list[int] = []
    run(tiny("evaluation.batch_size=5"), val, world, [Fooler(0.9), Fooler(0.9), Fooler(0.9)], progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 36


def test_a_curve_falls_and_meets_the_single_measurements(tiny: Tiny, val: Split, world: World) -> None:
    radii = [0.01, 0.03, 0.1, 0.5]
    config = tiny("threat.eps=0.03")
    check = Check(attack=config.evaluation.final.attack, curve=tuple(radii))
    result = evaluate(Brightness(), val, config, check, world)
    assert [point["eps"] for point in result["curve"]] == radii
    found = [point["robust_accuracy"] for point in result["curve"]]
    held = sum(each["images"] * each["robust_accuracy"] for each in result["classes"])
    assert held == pytest.approx(result["n_eval"] * result["robust_accuracy"]), "larger balls don't count by class"
    assert found == sorted(found, reverse=True)
    for eps, robust in zip(radii, found, strict=True):
        config = tiny(f"threat.eps={eps}")
        alone = evaluate(Brightness(), val, config, config.evaluation.final, world)["robust_accuracy"]
        assert robust == pytest.approx(alone, abs=1 / 12)
    assert result["robust_accuracy"] == found[1]
    assert len({*found}) > 1, "choose radii that matter"


def test_rounds_are_all_tries_in_balls_of_rising_radius(tiny: Tiny) -> None:
    config = tiny("threat.eps=0.5")
    check = Check(attack=config.evaluation.final.attack, curve=(1.0, 0.5, 0.1))
    assert [(each.name, each.ball.eps) for each in rounds(config, check, 3)] == [
        (f"pgd {number}", eps) for eps in (0.1, 0.5, 1.0) for number in (1, 2)
    ]


def test_balanced_accuracy_is_the_mean_over_classes(tiny: Tiny, val: Split, world: World) -> None:
    uneven = val.at(np.array([0, 1, 2, 4, 8]))
    result = evaluate(Brightness(), uneven, tiny(), tiny().evaluation.final, world)
    outcomes = attacked(Brightness(), uneven, np.arange(5), planned(Fooler(0.0)), tiny(), world)
    right = outcomes.clean == uneven.labels
    expected = np.mean([right[uneven.labels == label].mean() for label in range(3)])
    assert expected != pytest.approx(right.mean())
    assert result["balanced_accuracy"]["clean"] == pytest.approx(expected)
    assert json.loads(json.dumps(result)) == result, "plain numbers, fit for JSON"
