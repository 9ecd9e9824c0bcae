"""How files, bases and overrides become one configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcfast.config import RunConfig, load
from tests.conftest import RUN

Tiny = Callable[..., RunConfig]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base.yaml", RUN.replace("size: 10,", "size: 10, path: somewhere,"))


def test_an_override_changes_one_setting_only(tiny: Tiny) -> None:
    assert tiny("threat.eps=8/255") == tiny().model_copy(
        update={"threat": tiny().threat.model_copy(update={"eps": 8 / 255})}
    )


def test_an_override_replaces_a_list(tiny: Tiny) -> None:
    config = tiny("schedule.name=piecewise", "schedule.knots=[[0, 0], [1/3, 1], [2 epochs, 1]]")
    assert config.schedule.model_dump()["knots"] == (("0%", 0), ("33.333333333333336%", 1), ("2 epochs", 1))


def test_a_config_is_frozen(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny().epochs = 5


def test_a_file_inherits_from_its_base_and_that_from_its_own(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "middle.yaml", "base: base.yaml\nepochs: 7\nseed: 1\n")
    config = load(write(tmp_path / "top.yaml", "base: middle.yaml\nseed: 2\ndata: {size: 16}\n"))
    assert (config.name, config.epochs, config.seed) == ("top", 7, 2)
    assert (config.data.size, config.data.batch_size) == (16, 8)


def test_a_base_is_looked_for_beside_the_file_that_names_it(base: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    config = load(write(tmp_path / "deep" / "run.yaml", "base: ../base.yaml\n"))
    assert config.epochs == load(base).epochs


def test_another_component_drops_the_old_ones_settings(base: Path) -> None:
    config = load(base, ["attack.name=pgd", "attack.steps=3"])
    other = load(base, ["evaluation.final.attack.name=fgsm_rs", "schedule.name=step", "schedule.milestones=[50%]"])
    assert config.attack.model_dump() == {"name": "pgd", "steps": 3, "alpha": None, "restarts": 1}
    assert other.evaluation.final.attack.model_dump() == {"name": "fgsm_rs", "alpha": None, "start": "random"}
    assert set(other.schedule.model_dump()) == {"name", "warmup", "milestones", "gamma"}


def test_the_same_component_keeps_its_settings(base: Path) -> None:
    config = load(base, ["evaluation.final.attack.name=pgd", "evaluation.final.attack.steps=9"])
    assert config.evaluation.final.attack.model_dump() == {"name": "pgd", "steps": 9, "alpha": None, "restarts": 2}


def test_another_model_drops_options_and_keeps_the_rest(base: Path) -> None:
    model = load(base, ["model.name=cifar_resnet18"]).model
    assert model.options == {}
    assert (model.mean, model.std) == ((0.5,), (0.25,))


def test_another_optimizer_keeps_the_learning_rate(base: Path) -> None:
    optim = load(base, ["optim.name=adamw"]).optim
    assert (optim.name, optim.lr, optim.lr_batch) == ("adamw", 0.05, 8)


def test_a_name_is_the_files_unless_given(tiny: Tiny, tmp_path: Path) -> None:
    assert tiny().name == "tiny"
    assert tiny("name=other").folder == tmp_path / "runs" / "other"


def test_phases_come_in_their_order(tiny: Tiny) -> None:
    phases = "[{epochs: 1, size: 8, batch_size: 6}, {epochs: 2, size: 10, batch_size: 4}]"
    config = tiny(f"phases={phases}")
    assert [(p.epochs, p.size, p.batch_size) for p in config.all_phases] == [(1, 8, 6), (2, 10, 4)]


@pytest.mark.parametrize("key", ["epochs", "steps", "images"])
def test_without_phases_there_is_one_of_the_runs_duration(tiny: Tiny, key: str) -> None:
    (phase,) = tiny("epochs=null", f"{key}=70").all_phases
    durations = {"epochs": phase.epochs, "steps": phase.steps, "images": phase.images}
    assert durations == {"epochs": None, "steps": None, "images": None, key: 70}
    assert (phase.size, phase.batch_size, phase.lr) == (10, 8, None)


@pytest.mark.parametrize(
    ("length", "expected"),
    [("epochs=5", [2, 3]), ("epochs=1", [0.4, 0.6]), ("steps=7", [3, 4]), ("images=100", [40, 60])],
)
def test_phases_that_are_shares_follow_the_run(tiny: Tiny, tmp_path: Path, length: str, expected: list[float]) -> None:
    phases = "phases=[{share: 40%, size: 8, batch_size: 6}, {share: 60%, size: 10, batch_size: 4}]"
    key = length.partition("=")[0]
    config = tiny("epochs=null", length, phases)
    assert [getattr(phase, key) for phase in config.all_phases] == expected
    assert load(write(tmp_path / "copy.yaml", config.dump())) == config


@pytest.mark.parametrize("steps", [3, 7, 100, 101])
def test_steps_of_phases_that_are_shares_add_up(tiny: Tiny, steps: int) -> None:
    thirds = ", ".join("{share: 1/3, size: 8, batch_size: 4}" for _ in range(3))
    config = tiny("epochs=null", f"steps={steps}", f"phases=[{thirds}]")
    assert sum(phase.steps or 0 for phase in config.all_phases) == steps


def test_what_comes_to_the_same_is_the_same_when_settled(tiny: Tiny) -> None:
    shares = tiny("epochs=15", "schedule={name: piecewise, knots: [[0, 0], [1/15, 1], [40%, 0.1], [100%, 0]]}")
    epochs = tiny(
        "epochs=15", "schedule={name: piecewise, knots: [[0, 0], [1 epoch, 1], [6 epochs, 0.1], [15 epochs, 0]]}"
    )
    assert shares != epochs
    assert shares.settled == epochs.settled
    assert tiny("epochs=14").settled != tiny("epochs=15").settled
    step = "schedule={name: step, warmup: %s, milestones: [%s]}"
    assert tiny("epochs=4", step % ("1/4", "1/2")).settled == tiny("epochs=4", step % ("1 epoch", "2 epochs")).settled
    assert tiny("epochs=4", step % ("1/4", "1/2")).settled != tiny("epochs=4", step % ("1 epoch", "3 epochs")).settled
    by_share = "phases=[{share: 25%, size: 8, batch_size: 4}, {share: 75%, size: 8, batch_size: 4}]"
    assert (
        tiny("epochs=4", by_share).settled
        == tiny("epochs=4", "phases=[{epochs: 1, size: 8, batch_size: 4}, {epochs: 3, size: 8, batch_size: 4}]").settled
    )


def test_phases_may_say_the_duration_alone(tiny: Tiny) -> None:
    config = tiny("epochs=null", "phases=[{steps: 2, size: 8, batch_size: 6}, {images: 9, size: 10, batch_size: 4}]")
    assert [(p.steps, p.images) for p in config.all_phases] == [(2, None), (None, 9)]


def test_another_attack_of_the_guard_drops_the_old_ones_settings(base: Path) -> None:
    guard = load(base, ["guard.attack.name=pgd", "guard.attack.steps=3"]).guard
    assert guard.attack.model_dump() == {"name": "pgd", "steps": 3, "alpha": None, "restarts": 1}


def test_an_empty_ladder_is_legal(tiny: Tiny) -> None:
    assert tiny("guard.every=1", "guard.ladder=[]").guard.ladder == ()


def test_a_dump_of_a_changed_config_is_that_config(tiny: Tiny, tmp_path: Path) -> None:
    changes = ["threat.eps=8/255", "attack.name=pgd", "schedule.warmup=5%", "data.augment=pad_crop_flip", "name='007'"]
    changes += ["guard.every=2", "guard.ladder=[{name: nfgsm, noise: 3}]", "ema=0.99", "allreduce.compression=fp16"]
    config = tiny(*changes)
    assert load(write(tmp_path / "copy.yaml", config.dump())) == config


def test_relative_data_paths_stay_relative(base: Path) -> None:
    assert load(base).data.path == Path("somewhere")


def test_a_variable_in_a_folders_name_stays_one(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/job-1")
    config = tiny("data.stage=$TMPDIR/{node}")
    assert config.data.stage == Path("$TMPDIR/{node}")
    assert load(write(tmp_path / "copy.yaml", config.dump())) == config


def test_validation_reaches_into_every_group(tiny: Tiny) -> None:
    given: dict[str, Any] = tiny().model_dump()
    assert RunConfig.model_validate(given).model_dump() == given
