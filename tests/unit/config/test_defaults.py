"""What a configuration need not say."""

from pathlib import Path

import pytest
import yaml

from hpcfast.config import Check, load
from hpcfast.errors import UserError
from tests.unit.config.test_files import CONFIGS

THREE = "threat: {{norm: L2, eps: 0.5}}\ndata: {{path: {data}}}\nmodel: {{name: {model}}}\n"


def three(tmp_path: Path, model: str = "cifar_resnet20") -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(THREE.format(data=tmp_path, model=model))
    return path


def test_three_lines_are_enough(tmp_path: Path) -> None:
    config = load(three(tmp_path))
    assert (config.name, config.epochs, config.attack.name, config.data.size) == ("mine", 30, "nfgsm", 32)
    assert config.schedule.factor(30, 30) == 0
    assert load(three(tmp_path), ["steps=7"]).epochs is None, "another length replaces the default"
    grey = load(three(tmp_path), ["data.channels=1"])
    assert (len(grey.model.mean), len(grey.model.std)) == (1, 1)


@pytest.mark.parametrize(("model", "size"), [("resnet50", 224), ("vit_base_patch16_384", 384), ("cifar_resnet8", 32)])
def test_images_are_as_large_as_the_network_expects(tmp_path: Path, model: str, size: int) -> None:
    assert load(three(tmp_path, model)).data.size == size


def test_what_is_given_stays(tmp_path: Path) -> None:
    config = load(
        three(tmp_path), ["evaluation.every=3", "attack.name=pgd", "data.size=64", "optim={lr: 1, lr_batch: 2}"]
    )
    assert (config.evaluation.every, config.evaluation.final.attack.name) == (3, "apgd")
    assert (config.attack.name, config.data.size, config.optim.lr) == ("pgd", 64, 1)


def test_a_group_that_is_given_in_part_keeps_the_rest(tmp_path: Path) -> None:
    config = load(three(tmp_path), ["optim.lr=0.3", "evaluation.final.images=6", "evaluation.monitor.attack.name=apgd"])
    assert (config.optim.lr, config.optim.lr_batch) == (0.3, 128)
    assert (config.evaluation.final.attack.name, config.evaluation.final.images) == ("apgd", 6)
    alone = Check.model_validate({"attack": {"name": "apgd"}})
    assert config.evaluation.monitor == alone, "a check with an attack means what it meant before there were defaults"


@pytest.mark.parametrize("key", ["threat", "data", "model"])
def test_the_three_must_be_there(tmp_path: Path, key: str) -> None:
    path = three(tmp_path)
    path.write_text("".join(line for line in path.open() if not line.startswith(key)))
    with pytest.raises(UserError, match=rf"{key}: missing"):
        load(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_shipped_needs_no_default(path: Path) -> None:
    """So that a default may change without changing an experiment."""
    given = {}
    while path:
        values = yaml.safe_load(path.read_text())
        given = values | given
        path = path.parent / values["base"] if "base" in values else None
    assert {"attack", "optim", "schedule", "evaluation", "epochs"} <= given.keys()
    assert {"size", "batch_size"} <= given["data"].keys()
