"""Every restart of an attack begins somewhere else: a restart from the same point would find nothing new."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcfast.attacks import Attack, Try, rng
from hpcfast.attacks.apgd import Apgd
from hpcfast.attacks.autoattack import Autoattack
from hpcfast.attacks.norms import L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from hpcfast.attacks.rng import Source
from hpcfast.config import Check, RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.distributed.comm import World
from hpcfast.evaluation import attacked, rounds
from hpcfast.evaluation.outcomes import Round
from tests.unit.evaluation.test_evaluate import Brightness
from tests.unit.nets import ball_name, pictures

Tiny = Callable[..., RunConfig]
SEEN: list[Tensor] = []


class Watched(nn.Module):
    """Right about all images whatever is done to them; it notes what it is shown."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.detach().clone())
        if len(x) < len(self.labels):  # which also keeps torch.fx from copying it without this note
            return torch.zeros(len(x), 5)
        return 9 * nn.functional.one_hot(self.labels, 5) + 1e-3 * x.flatten(1)[:, :5]


class First:
    """An attempt that notes the first images other than the given ones that the model is shown."""

    def __init__(self, attempt: Try) -> None:
        self.attempt = attempt

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        SEEN.clear()
        self.attempt(model, x, y, ball, source)
        self.start = next(images for images in SEEN if not torch.equal(images, x))
        return x


def assert_all_differ(starts: list[Tensor]) -> None:
    for (i, one), (j, other) in combinations(enumerate(starts), 2):
        same = (one == other).flatten(1).all(1)
        assert not same.any(), f"tries {i} and {j} begin alike on images {same.nonzero().squeeze(1).tolist()}"


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize(
    "attack",
    [
        Pgd(name="pgd", steps=2, restarts=4),
        Apgd(name="apgd", steps=4, targets=3),
        Autoattack(name="autoattack"),
        Autoattack(name="autoattack", version="rand"),
    ],
    ids=str,
)
def test_all_tries_of_an_evaluation_start_apart(
    attack: Attack, norm: str, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the five of AutoAttack in the L1 ball, which are one attack five times."""
    for name, few in (("STEPS", 4), ("SAMPLES", 2)):
        monkeypatch.setattr(f"hpcfast.attacks.autoattack.{name}", few)
    config = tiny(f"threat.norm={norm}", "threat.eps=0.2", "evaluation.batch_size=12")
    split = read_splits(config.data.path)[1]
    planned = [each for each in rounds(config, Check(attack=attack), 5) if each.name.startswith(("pgd", "apgd"))]
    firsts = [First(each.attempt) for each in planned]
    watched = [each._replace(attempt=first) for each, first in zip(planned, firsts, strict=True)]
    attacked(Watched(torch.as_tensor(split.labels)), split, np.arange(12), watched, config, world)
    assert len(firsts) > 1
    assert_all_differ([first.start for first in firsts])


class Drawing:
    """An attempt that only draws numbers, and notes them by image."""

    def __init__(self) -> None:
        self.drawn: dict[float, float] = {}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, source: Source) -> Tensor:
        numbers = rng.uniform(x[:, :1, :1, :1], source).flatten()
        self.drawn.update(zip(x.flatten(1).sum(1).tolist(), numbers.tolist(), strict=True))
        return x


def test_every_image_has_numbers_of_its_own_in_every_round(tiny: Tiny, world: World) -> None:
    found: list[list[dict[float, float]]] = []
    for seed, batch_size in ((0, 12), (0, 5), (0, 1), (1, 12)):
        config, draws = tiny(f"evaluation.batch_size={batch_size}", f"seed={seed}"), [Drawing() for _ in range(5)]
        planned = [Round("", L2(0.1), each) for each in draws]
        attacked(Brightness(), read_splits(config.data.path)[1], np.arange(12), planned, config, world)
        found.append([each.drawn for each in draws])
    numbers = [number for drawn in found[0] for number in drawn.values()]
    assert len(numbers) == len({*numbers}) >= 5 * 4
    assert found[0] == found[1] == found[2], "in batches of another size they are the same"
    assert not {*numbers} & {number for drawn in found[3] for number in drawn.values()}


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)], ids=ball_name)
@pytest.mark.parametrize("own", [True, False], ids=["generators", "generator"])
def test_restarts_within_one_call_start_apart(ball: Ball, own: bool) -> None:
    x, _ = pictures()
    y = torch.zeros(len(x), dtype=torch.int64)
    source = rng.per_image(0, torch.arange(len(x))) if own else torch.Generator().manual_seed(0)
    SEEN.clear()
    Pgd(name="pgd", steps=1, restarts=4).perturb(Watched(y), x, y, ball, source)
    starts = [SEEN[0], *SEEN[2::3]]  # around each restart a look at where it and those before it have led
    assert len(starts) == 4
    assert_all_differ(starts)
