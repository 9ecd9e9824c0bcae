"""What fools each model: the search, the picture, and the models it needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hpcfast.config import RunConfig, load, read_run
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.explain import fooling
from hpcfast.explain import load as subjects
from hpcfast.models import saved
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import train
from tests.conftest import RUN

ALONE = World(0, 1, 0, 1)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory, images: Path, world: World) -> list[RunConfig]:
    """Two finished runs that have learnt something, standard and fast; don't change their folders."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.yaml").write_text(RUN)
    common = [
        f"data.path={images}",
        f"runs={folder}",
        "model.options.width=4",
        "epochs=12",
        "evaluation.every=0",
        "data.held_out=0",
    ]
    made = []
    for attack in ("standard", "fgsm_rs"):
        made.append(load(folder / "tiny.yaml", [*common, f"name={attack}", f"attack.name={attack}", "optim.lr=0.1"]))
        train.train(made[-1], world)
    return made


@pytest.fixture(autouse=True)
def _few_radii(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same span in larger steps, to save time."""
    monkeypatch.setattr(fooling, "RADII", fooling.RADII[::6])


@pytest.fixture(scope="module")
def runs(configs: list[RunConfig]) -> list[RunDirectory]:
    return [RunDirectory(config.folder) for config in configs]


def test_the_picture_is_drawn(runs: list[RunDirectory], tmp_path: Path) -> None:
    fooling.picture(runs, tmp_path / "figures" / "adversarial.png")
    image = np.asarray(Image.open(tmp_path / "figures" / "adversarial.png").convert("L"))
    assert image.shape[1] > 800
    assert len(np.unique(image)) > 50, "the picture looks empty"


def test_all_changes_are_on_one_scale_which_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[Any] = []
    monkeypatch.setattr(fooling.plot, "save", lambda path, draw, dpi: grids.append(draw()))
    monkeypatch.setattr(fooling.plot, "grid", lambda figure, rows: grids.append(rows))
    x = torch.full((2, 1, 20, 20), 0.5)
    faint, strong = x + 0.01, x - 0.04
    found = [
        (name, (moved, torch.ones(2, dtype=torch.int64), torch.ones(2)))
        for name, moved in (("a", faint), ("b", strong))
    ]
    fooling.draw(tmp_path / "x.png", x, torch.zeros(2, dtype=torch.int64), found, ("no", "yes"), "L2")
    rows, figure = grids
    for row in rows:
        np.testing.assert_allclose(row[2].pixels, 0.5 + 10 * 0.01, atol=1e-6)
        np.testing.assert_allclose(row[4].pixels, 0.5 - 10 * 0.04, atol=1e-6)
    assert "changes shown x10, grey: none" in figure.get_suptitle()


def test_a_few_large_changes_do_not_hide_the_others() -> None:
    changes = torch.full((1, 1, 100, 100), 0.04)
    changes[0, 0, 0, :50] = 0.9
    assert fooling.magnified([changes]) == 10
    assert fooling.magnified([torch.full((1, 1, 4, 4), 0.8)]) == 1


def test_a_picture_has_no_background_that_would_shine_in_the_dark(tmp_path: Path) -> None:
    x = torch.full((1, 1, 4, 4), 0.5)
    found = [("a", (x + 0.1, torch.ones(1, dtype=torch.int64), torch.ones(1)))]
    fooling.draw(tmp_path / "x.png", x, torch.zeros(1, dtype=torch.int64), found, ("no", "yes"), "L2")
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    assert pixels.shape[2] == 4
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3] == 0).all()


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_fooling_images_fool_and_are_as_far_as_said(configs: list[RunConfig], index: int, norm: str) -> None:
    config = configs[index]
    config = config.model_copy(update={"threat": config.threat.model_copy(update={"norm": norm})})
    model, _ = saved.load(RunDirectory(config.folder), config.model)
    x, y = fooling.all_correct(*subjects([RunDirectory(config.folder)], [], ALONE))
    found, taken_for, distance = fooling.fool(model, x, y, config)
    assert torch.equal(model(found).argmax(1), taken_for)
    assert (taken_for != y).all(), "eight times eps in 10x10 pixels should fool this model"
    order = 2.0 if norm == "L2" else float("inf")
    torch.testing.assert_close(distance, (found - x).flatten(1).norm(order, dim=1))
    assert (distance > 0).all()
    assert (distance <= 8 * config.threat.eps + 1e-5).all()
    assert 0 <= found.min() <= found.max() <= 1


class Stubborn(nn.Module):
    """Class 0, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((1 + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)), 1)


def test_an_image_that_nothing_fools_is_given_as_classified_rightly(configs: list[RunConfig]) -> None:
    x, y = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64)
    found, taken_for, _ = fooling.fool(Stubborn(), x, y, configs[0])
    assert torch.equal(taken_for, y)
    assert found.shape == x.shape


def test_pictured_images_are_classified_rightly_by_all(runs: list[RunDirectory]) -> None:
    loaded, val = subjects(runs, [], ALONE)
    x, y = fooling.all_correct(loaded, val)
    assert 1 <= len(x) <= fooling.IMAGES
    for each in loaded:
        assert torch.equal(each.model(x).argmax(1), y)


def test_without_an_image_that_all_classify_rightly_there_is_no_picture(runs: list[RunDirectory]) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(9)[8].expand(len(x), 9)

    (loaded,), val = subjects(runs[:1], [], ALONE)
    with pytest.raises(UserError, match="none of 64 images is classified correctly by all runs"):
        fooling.all_correct([loaded._replace(model=Wrong())], val)


def test_runs_of_another_norm_make_no_common_picture(runs: list[RunDirectory], tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    other.path.mkdir()
    for name in ("model.json", "model.safetensors"):
        (other.path / name).write_bytes((runs[0].path / name).read_bytes())
    other.config.write_text(runs[0].config.read_text().replace("norm: L2", "norm: Linf"))
    with pytest.raises(UserError, match="a picture needs runs of the same norm"):
        fooling.picture([runs[0], other], tmp_path / "none.png")


def test_without_a_finished_run_there_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a picture needs a finished run"):
        fooling.picture([], tmp_path / "none.png")


def test_an_unfinished_run_has_no_model(runs: list[RunDirectory], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.config.write_text(runs[0].config.read_text())
    with pytest.raises(UserError, match="no weights .*finish the run first"):
        saved.load(run, read_run(run).model)


@pytest.mark.parametrize("content", [None, "", "{}", "[]"])
def test_a_missing_or_damaged_description_is_named(
    runs: list[RunDirectory], tmp_path: Path, content: str | None
) -> None:
    run = RunDirectory(tmp_path)
    run.weights.write_bytes(runs[0].weights.read_bytes())
    if content is not None:
        run.model.write_text(content)
    with pytest.raises(UserError, match=r"model\.json is missing or damaged"):
        saved.load(run, read_run(runs[0]).model)


def test_an_exported_model_is_in_eval_mode_and_names_its_classes(
    configs: list[RunConfig], runs: list[RunDirectory]
) -> None:
    model, classes = saved.load(runs[0], configs[0].model)
    assert not any(module.training for module in model.modules())
    assert classes == ("class0", "class1", "class2")
