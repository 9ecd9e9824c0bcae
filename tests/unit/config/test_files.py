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
def test_every_epoch_has_a_learning_rate(path: Path) -> None:
    config = load(path)
    epochs = sum(phase.epochs or 0 for phase in config.all_phases)
    assert epochs > 0
    for epoch in range(epochs):
        assert 0 <= config.schedule.factor(epoch + 0.5, epochs) <= 1


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
