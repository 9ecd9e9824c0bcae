"""``hpcfast.train`` and ``hpcfast.load``: what the commands do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hpcfast
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.export import publish
from hpcfast.models import saved
from hpcfast.runs.directory import RunDirectory
from tests.conftest import RUN


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return saved.load_weights(folder / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_run_is_that_of_the_command(plain: RunConfig, more_images: Path, tmp_path: Path, world: World) -> None:
    (tmp_path / "tiny.yaml").write_text(RUN)
    settings: dict[str, Any] = {"runs": str(tmp_path), "data.path": more_images}
    summary = hpcfast.train(tmp_path / "tiny.yaml", name="one", **settings)
    assert summary == json.loads((tmp_path / "one" / "summary.json").read_text())
    assert equal(weights(tmp_path / "one"), weights(plain.folder))
    nested = {**yaml.safe_load(RUN), "name": "two", "runs": str(tmp_path)}
    hpcfast.train(nested, data={"path": str(more_images)}, optim={"lr": 0.06})
    assert not equal(weights(tmp_path / "two"), weights(plain.folder)), "optim.lr has changed"
    assert yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["optim"]["lr"] == 0.06


def test_a_small_number_is_a_number(more_images: Path, tmp_path: Path, world: World) -> None:
    nested = {**yaml.safe_load(RUN), "name": "small", "runs": str(tmp_path)}
    with pytest.raises(hpcfast.UserError, match=r"epochs: .*\(got 1e-05\)"):
        hpcfast.train(nested, **{"data.path": more_images, "optim.lr": 1e-5, "epochs": 1e-5})


def test_a_finished_run_is_shown_again_and_another_config_is_refused(plain: RunConfig, world: World) -> None:
    assert hpcfast.train(plain.folder / "config.yaml") == RunDirectory(plain.folder).read_summary()
    with pytest.raises(hpcfast.UserError, match="epochs"):
        hpcfast.train(plain.folder / "config.yaml", epochs=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "epoch=3: wrong settings\n.*epoch: unknown key"),
        ({"engine": "torch"}, r"engine: torch, but this process has joined its ranks by single; begin anew"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], message: str, tmp_path: Path, world: World) -> None:
    with pytest.raises(hpcfast.UserError, match=message):
        hpcfast.train({**yaml.safe_load(RUN), "name": "x", "runs": str(tmp_path)}, **{"data.path": tmp_path}, **given)


def test_a_run_and_its_export_are_loaded(plain: RunConfig, tmp_path: Path) -> None:
    model = hpcfast.load(plain.folder)
    x = torch.rand(3, 1, 10, 10)
    ours, classes = saved.load(RunDirectory(plain.folder), plain.model)
    assert not model.training
    assert model.classes == classes == ("class0", "class1", "class2")
    assert torch.equal(model(x), ours(x))
    summary = RunDirectory(plain.folder).read_summary() or {}
    assert model.card["reached"]["robust_accuracy"] == summary["robust_accuracy"]
    assert model.card["threat"] == {"norm": "L2", "eps": 0.5}
    for form, file in (("safetensors", "m.safetensors"), ("robustbench", "m.pt")):
        publish(RunDirectory(plain.folder), plain, form, tmp_path / file)
        found = hpcfast.load(tmp_path / file)
        assert torch.allclose(found(x), ours(x), atol=1e-5)
        card = found.card["hpcfast"] if form == "robustbench" else found.card
        assert card["threat"] == model.card["threat"]


def test_what_is_no_model_is_refused(tmp_path: Path, plain: RunConfig) -> None:
    with pytest.raises(hpcfast.UserError, match="is no run directory"):
        hpcfast.load(tmp_path)
    with pytest.raises(hpcfast.UserError, match=r"nothing\.pt"):
        hpcfast.load(tmp_path / "nothing.pt")
