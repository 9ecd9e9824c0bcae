"""The configurations in configs/: each one loads, and its header says what it is."""

import json
from pathlib import Path

import pytest
import yaml

from hpcfast import component
from hpcfast.config import load, schema

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
each = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 20


@each
def test_it_is_valid_and_named_after_its_file(path: Path) -> None:
    assert load(path).name == path.stem


@each
def test_its_dump_is_the_same_configuration(path: Path, tmp_path: Path) -> None:
    config = load(path)
    copy = tmp_path / "config.yaml"
    copy.write_text(config.dump())
    assert load(copy) == config
    assert load(copy).dump() == config.dump()


@each
def test_its_header_says_paper_command_and_result(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("# Paper: ", "# Command: ", "# Expect: "):
        assert any(line.startswith(word) for line in header), f"{path}: no line '{word.strip()}'"
    assert any(line.endswith(f"hpcfast train configs/{path.name}") for line in header), "no command that trains it"


@each
def test_its_training_goes_as_its_name_says(path: Path) -> None:
    config = load(path)
    norm, *method = path.stem.removeprefix("restricted_").removeprefix("fashion_").split("_")[1:]
    assert config.threat.norm.lower() == norm
    if method:
        assert config.attack.name == {"pgd7": "pgd"}.get("_".join(method), "_".join(method))
    else:
        assert config.attack.name in ("fgsm_rs", "nfgsm"), "the fast configurations have no method in their names"


@each
@pytest.mark.parametrize("times", [0.5, 1, 2])
def test_its_schedule_ends_with_the_run(path: Path, times: float) -> None:
    whole = load(path).epochs
    assert whole
    config = load(path, [f"epochs={int(whole * times)}"])
    epochs = sum(phase.epochs or 0 for phase in config.all_phases)
    assert epochs == pytest.approx(int(whole * times))
    schedule = config.schedule
    assert schedule.late(epochs) == []
    factors = [schedule.factor(i / 100 * epochs, epochs) for i in range(101)]
    assert max(factors) == pytest.approx(1, abs=0.05), "the warm-up ends"
    assert factors == pytest.approx([load(path).schedule.factor(i / 100 * whole, whole) for i in range(101)])
    last = {"step": 0.01}.get(schedule.name, 0)
    assert factors[-1] == pytest.approx(last), "it ends where the run does"


def test_the_schema_is_json_and_names_every_top_level_setting() -> None:
    text = json.dumps(schema())
    for key in yaml.safe_load(load(CONFIGS[0]).dump()):
        assert f'"{key}"' in text


@pytest.mark.parametrize("package", ["hpcfast.attacks", "hpcfast.optim.schedules", "hpcfast.runs.trackers"])
def test_the_schema_knows_the_settings_of_every_component(package: str) -> None:
    text = json.dumps(schema())
    for name in component.names(package):
        for key in component.find(package, name).model_fields:
            assert f'"{key}"' in text, f"'hpcfast config schema' says nothing of {package}.{name}'s setting {key}"
