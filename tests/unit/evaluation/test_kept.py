"""Evaluations in folders of their own: made once, gone on with, found again."""

import csv
import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data.identity import identify
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import cache
from hpcfast.evaluation.cache import evaluate_cached
from hpcfast.evaluation.outcomes import Journal
from tests.unit.whole_runs import Killed, at_call, die

Tiny = Callable[..., RunConfig]


@pytest.fixture
def val(tiny: Tiny) -> Split:
    return read_splits(tiny().data.path)[1]


@pytest.fixture
def model(tiny: Tiny) -> nn.Module:
    config = tiny()
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(config.data.channels * config.data.size**2, 3))


def test_the_second_time_the_result_is_found(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    arguments = (model, val, identify(val), config, config.evaluation.final, world, tmp_path / "evaluations")
    first, place = evaluate_cached(*arguments)
    assert place.name.startswith("pgd-L2-0.5-")
    assert first["ids"] == list(range(12))
    assert first["about"]["seed"] == config.seed
    assert {"torch", "hpcfast", "pyautoattack"} <= first["about"]["versions"].keys()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "attacked", die)
        assert evaluate_cached(*arguments) == (first, place)
    again, _ = evaluate_cached(*arguments, overwrite=True)
    assert again.pop("seconds") != first.pop("seconds")
    assert again == first


def test_images_that_are_asked_for_later_are_kept(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path
) -> None:
    config = tiny()
    arguments = (model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")
    first, place = evaluate_cached(*arguments)
    assert not (place / cache.ADVERSARIAL).exists()
    written = []
    for _ in range(2):
        again, _ = evaluate_cached(*arguments, keep_images=True)
        written.append({path: path.stat().st_mtime_ns for path in (place / cache.ADVERSARIAL).iterdir()})
    assert written[0] == written[1] != {}
    assert again["stages"] == first["stages"]


@pytest.mark.parametrize(
    "change", ["seed=5", "threat.eps=0.4", "evaluation.final.images=6", "evaluation.final.attack.steps=4"]
)
def test_another_question_has_another_folder(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path, change: str
) -> None:
    places = {
        evaluate_cached(model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")[1]
        for config in (tiny(), tiny(change))
    }
    assert len(places) == 2


def test_other_weights_have_another_folder(tiny: Tiny, model: nn.Module) -> None:
    config = tiny()
    one = cache.depends_on(model, config)
    with torch.no_grad():
        model[1].bias[0] += 1e-6
    other = cache.depends_on(model, config)
    assert cache.place_of(Path(), "name", one) != cache.place_of(Path(), "name", other)


def test_the_table_has_every_images_fate(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path
) -> None:
    config = tiny("evaluation.final.curve=[0.05]")
    result, place = evaluate_cached(model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")
    rows = list(csv.DictReader((place / cache.IMAGES).read_text().splitlines()))
    assert [int(row["id"]) for row in rows] == result["ids"]
    assert all(Path(row["file"]).parent.name == row["class"] for row in rows)
    right = [row for row in rows if row["clean"] == row["class"]]
    assert len(right) == round(12 * result["clean_accuracy"])
    fooled = [row for row in right if row["fooled_by"]]
    assert len(right) - len(fooled) == round(12 * result["robust_accuracy"])
    assert all(row["attacked"] != row["class"] and float(row["eps"]) in (0.05, 0.5) for row in fooled)
    assert {row["fooled_by"] for row in fooled} <= {"pgd 1", "pgd 2"}
    assert sum(stage["broken"] for stage in result["stages"]) == len(fooled)


@pytest.mark.parametrize(
    ("target", "name"), [(Journal, "write"), (cache, "table"), (Journal, "remove"), (cache.files, "save_text")]
)
def test_a_kill_at_the_end_loses_nothing(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path, target: object, name: str
) -> None:
    config = tiny("evaluation.batch_size=5")
    arguments = (model, val, identify(val), config, config.evaluation.final, world)
    whole, place = evaluate_cached(*arguments, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, target, name, 1, die)
        with pytest.raises(Killed):
            evaluate_cached(*arguments, tmp_path / "killed")
    resumed, other = evaluate_cached(*arguments, tmp_path / "killed")
    for result in (whole, resumed):
        result.pop("seconds")
    assert resumed == whole
    assert (other / cache.IMAGES).read_text() == (place / cache.IMAGES).read_text()


def test_two_evaluations_at_once_are_refused(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path
) -> None:
    config = tiny()
    arguments = (model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")
    _, place = evaluate_cached(*arguments)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another evaluation"):
            evaluate_cached(*arguments)


def test_a_folder_that_cannot_be_written_is_an_error(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path
) -> None:
    config = tiny()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out a folder you may write"):
        evaluate_cached(model, val, identify(val), config, config.evaluation.final, world, tmp_path / "file")


def test_the_result_is_plain_json(tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path) -> None:
    config = tiny()
    result, place = evaluate_cached(model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")
    assert json.loads((place / cache.RESULT).read_text()) == result


def test_an_evaluation_is_made_anew_whatever_is_left_of_it(
    tiny: Tiny, val: Split, world: World, model: nn.Module, tmp_path: Path
) -> None:
    config = tiny()
    arguments = (model, val, identify(val), config, config.evaluation.final, world, tmp_path / "e")
    first, place = evaluate_cached(*arguments)
    for gone in ((), (place / cache.RESULT,), (place / cache.RESULT, place / cache.IMAGES)):
        for file in gone:
            file.unlink()
        again, _ = evaluate_cached(*arguments, overwrite=True)
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert not (place / cache.ADVERSARIAL).exists()


def test_settings_in_another_order_are_the_same_evaluation(tiny: Tiny, model: nn.Module, tmp_path: Path) -> None:
    config = tiny()
    about = cache.depends_on(model, config)
    turned = {key: about[key] for key in reversed(about)}
    assert cache.place_of(tmp_path, "name", about) == cache.place_of(tmp_path, "name", turned)
