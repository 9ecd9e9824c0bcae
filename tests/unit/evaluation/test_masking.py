"""A model that hides its gradients is flagged, an honest one is not."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.norms import L2
from hpcfast.config import RunConfig
from hpcfast.data import DataSettings, feed
from hpcfast.data.reader import read_splits
from hpcfast.data.split import Split, spread
from hpcfast.datasets.prepare import prepare
from hpcfast.datasets.sources import digits
from hpcfast.distributed.comm import World
from hpcfast.evaluation import masking

Tiny = Callable[..., RunConfig]
EPS = 1.5


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits"
    prepare(digits.Digits(name="digits"), path, lambda done: None)
    return path


@functools.cache
def trained(path: Path, robust: bool) -> nn.Module:
    """A small network, trained on 600 digits as they are or under attack."""
    split = read_splits(path)[0]
    settings = folder_settings(path)
    x, y, _ = next(feed.batches(split, spread(len(split), 600), settings, SHARD, 600, None))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 12, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 144, 10))
    optimizer, attack = torch.optim.Adam(model.parameters(), 0.005), FgsmRs(name="fgsm_rs")
    for step in range(40):
        seen = attack.perturb(model, x, y, L2(EPS), torch.Generator().manual_seed(step)) if robust else x
        optimizer.zero_grad()
        F.cross_entropy(model(seen), y).backward()
        optimizer.step()
    return model.eval()


SHARD = feed.Shard(0, 1, torch.device("cpu"), 1)


def folder_settings(path: Path) -> DataSettings:
    return DataSettings(path=path, channels=1, size=28, batch_size=1)


class Then(nn.Module):
    """Another model, whose logits go through ``change``."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.model(x))


class Noisy(nn.Module):
    """Rounds pixels to black and white, which has no gradient, before the model sees them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.round())


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as many images and queries, and so a quarter of the time."""
    monkeypatch.setattr(masking, "IMAGES", 64)
    monkeypatch.setattr(masking, "BLACK_BOX", masking.BLACK_BOX.model_copy(update={"queries": 250}))


@pytest.fixture
def look(_few: None, tiny: Tiny, prepared: Path, world: World) -> Callable[[nn.Module], dict[str, Any]]:
    config = tiny(f"data.path={prepared}", "data.size=28", f"threat.eps={EPS}", "evaluation.batch_size=64")
    split: Split = read_splits(prepared)[1]
    return lambda model: masking.look(model, split, masking.some(split.good, world), config, world)


def test_honest_models_are_not_flagged(prepared: Path, look: Callable[..., dict[str, Any]]) -> None:
    standard, robust = (look(trained(prepared, robust)) for robust in (False, True))
    for found in (standard, robust):
        assert found["n"] > 50
        assert not found["suspicious"], found
        assert found["signs"] == []
    assert standard["many_steps"] > robust["many_steps"] + 0.2, "the robust model is to be one"


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("rounded logits", lambda model: Then(model, torch.round)),
        ("logits times a million", lambda model: Then(model, lambda logits: 1e6 * logits)),
        ("rounded pixels", Noisy),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("robust", [False, True], ids=["standard", "robust"])
def test_a_masked_model_is_flagged(
    prepared: Path,
    look: Callable[..., dict[str, Any]],
    name: str,
    mask: Callable[[nn.Module], nn.Module],
    robust: bool,
) -> None:
    found = look(mask(trained(prepared, robust)))
    assert found["suspicious"], found
    assert found["signs"], name


def test_a_model_that_knows_nothing_has_nothing_to_mask(look: Callable[..., dict[str, Any]]) -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot(torch.full((len(x),), 10), 11).float() + 0 * x.sum()

    assert look(Wrong()) == {"suspicious": False, "signs": [], "n": 0}


@pytest.mark.usefixtures("_few")
def test_the_numbers_do_not_depend_on_the_batch(prepared: Path, tiny: Tiny, world: World) -> None:
    split = read_splits(prepared)[1]
    found = []
    for batch_size in (20, 32):
        config = tiny(
            f"data.path={prepared}", "data.size=28", f"threat.eps={EPS}", f"evaluation.batch_size={batch_size}"
        )
        found.append(masking.look(trained(prepared, True), split, masking.some(split.good, world), config, world))
    for key in ("zero_gradients", "one_step", "many_steps", "any_image"):
        assert found[0][key] == pytest.approx(found[1][key], abs=0.02)


@pytest.mark.parametrize(("norm", "radius"), [("Linf", 1.0), ("L2", 28.0), ("L1", 784.0)])
def test_it_looks_at_few_images_and_at_the_least_ball_that_holds_all(
    norm: str, radius: float, prepared: Path, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """28 x 28 pixels: from black to white is 1, 28 or 784."""
    seen: list[tuple[int, float]] = []
    attacked = masking.attacked

    def noted(model: nn.Module, split: Split, ids: Any, planned: list[Any], *rest: Any) -> Any:
        seen.append((len(ids), planned[0].ball.eps))
        return attacked(model, split, ids, [each._replace(attempt=lambda m, x, *_: x) for each in planned], *rest)

    monkeypatch.setattr(masking, "attacked", noted)
    config = tiny(f"data.path={prepared}", "data.size=28", f"threat={{norm: {norm}, eps: 0.25}}")
    split = read_splits(prepared)[1]
    assert len(split) > 128
    masking.look(trained(prepared, False), split, masking.some(np.arange(len(split)), world), config, world)
    assert seen == [(128, 0.25), (128, 0.25), (128, radius)]
