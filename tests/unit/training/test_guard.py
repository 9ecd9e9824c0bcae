"""The watch for catastrophic overfitting: what it measures, when it looks, what it answers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hpcfast.attacks import Attack, rng
from hpcfast.config import RunConfig
from hpcfast.data import Batch, feed
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread
from hpcfast.distributed.comm import World
from hpcfast.training.guard import Guard, Health
from tests.unit.loading import CPU

Tiny = Callable[..., RunConfig]
COLLAPSED, WELL = Health(0.9, 0.2, 0.1), Health(0.5, 0.45, 0.9)
LADDER = "guard={every: 2, limit: 0.2, images: 9, attack: {name: pgd, steps: 3}, ladder: [{name: nfgsm}, {name: pgd}]}"


def test_the_rungs_answer_in_their_order_until_there_is_none(tiny: Tiny) -> None:
    guard = Guard(tiny(LADDER))
    assert guard.attack.name == "fgsm_rs"
    assert guard.answer(COLLAPSED, 2)
    assert guard.attack.name == "nfgsm"
    assert guard.answer(COLLAPSED, 4)
    assert guard.attack.name == "pgd"
    assert not guard.answer(COLLAPSED, 6)
    assert guard.attack.name == "pgd", "it goes on with what it has"
    assert not guard.answer(COLLAPSED, 8)
    told = [(entry["epoch"], entry["attack"]["name"], (entry["answer"] or {}).get("name")) for entry in guard.history]
    assert told == [(2, "fgsm_rs", "nfgsm"), (4, "nfgsm", "pgd"), (6, "pgd", None), (8, "pgd", None)]
    assert all((e["seen"], e["strong"], e["alignment"]) == (0.9, 0.2, 0.1) for e in guard.history)


def test_the_history_alone_says_which_attack_is_used(tiny: Tiny) -> None:
    guard, other = Guard(tiny(LADDER)), Guard(tiny(LADDER))
    guard.answer(COLLAPSED, 2)
    other.history = list(guard.history)
    assert other.attack == guard.attack


def test_without_a_ladder_there_is_no_answer(tiny: Tiny) -> None:
    guard = Guard(tiny("guard.ladder=[]"))
    assert not guard.answer(COLLAPSED, 1)
    assert guard.attack == tiny().attack


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["guard.every=1"], [1, 2, 3, 4, 5, 6]),
        (["guard.every=3"], [3, 6]),
        (["guard.every=0"], []),
        (["guard.every=1", "attack={name: standard}"], []),
    ],
    ids=str,
)
def test_it_is_due_as_often_as_asked_and_not_for_standard_training(
    changes: list[str], expected: list[int], tiny: Tiny
) -> None:
    guard = Guard(tiny(*changes))
    assert [epoch for epoch in range(1, 7) if guard.due(epoch, finished=False)] == expected
    assert guard.due(5, finished=True) == bool(expected)


def test_a_gap_over_the_limit_is_a_collapse(tiny: Tiny) -> None:
    guard = Guard(tiny("guard.limit=0.25"))
    assert not guard.collapsed(Health(seen=0.75, strong=0.5, alignment=0))
    assert guard.collapsed(Health(seen=0.75, strong=0.49, alignment=0))
    assert not guard.collapsed(Health(seen=0.1, strong=0.9, alignment=0))


class Healthy(nn.Module):
    """Bright or dark: linear in the mean pixel."""

    def forward(self, x: Tensor) -> Tensor:
        margin = 10 * (x.flatten(1).mean(1) - 0.5)  # not so sure of itself that gradients vanish
        return torch.stack((-margin, margin), 1)


class Collapsed(nn.Module):
    """Right at an image and exactly one step of 0.1 away from it, wrong halfway: it defeats its training attack."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        bright = (mean > 0.5).float() * 2 - 1
        beyond = bright * (mean - 0.5) - 0.25  # from the image, along what should be its safe direction
        margin = 5 * bright * torch.cos(2 * math.pi / 0.1 * beyond - 0.5)
        return torch.stack((-margin, margin), 1)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Even images of two classes: brightness 1/4 and 3/4, as near as bytes come."""
    root = tmp_path_factory.mktemp("grey") / "grey"
    for split in ("train", "val"):
        for name, value in (("dark", 64), ("light", 191)):
            (root / split / name).mkdir(parents=True)
            for i in range(6):
                Image.fromarray(np.full((10, 10), value, np.uint8)).save(root / split / name / f"{i}.png")
    return root


def examined(net: nn.Module, root: Path, config: RunConfig, world: World) -> Health:
    return Guard(config).examine(net, read_splits(root)[0], world)


def test_a_network_that_defeats_its_training_attack_alone_is_found(tiny: Tiny, grey: Path, world: World) -> None:
    threat = ["threat={norm: Linf, eps: 0.1}", "attack={name: fgsm_rs, start: zero}"]
    config = tiny(*threat, "guard={every: 1, images: 8, attack: {name: pgd, steps: 4, alpha: 0.025}}")
    well, ill = (examined(net, grey, config, world) for net in (Healthy(), Collapsed()))
    assert (well.seen, well.strong) == (1, 1)
    assert well.alignment == pytest.approx(1)
    assert (ill.seen, ill.strong) == (1, 0)
    assert ill.alignment < well.alignment
    guard = Guard(config)
    assert guard.collapsed(ill)
    assert not guard.collapsed(well)


def directly(net: nn.Module, config: RunConfig, training: Attack) -> Health:
    """The same, from its definition: all images in one batch, gradients by autograd."""
    split = read_splits(config.data.path)[0]
    ids = spread(len(split), config.guard.images)
    (batch,) = feed.batches(split, ids, config.data, feed.Shard(0, 1, CPU, 1), len(ids), None)
    assert isinstance(batch, Batch)
    x, y, _ = batch
    ball = config.threat.ball

    def source() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(rng.seed_of(config.seed, int(i))) for i in ids]

    def accuracy(attack: Attack) -> float:
        return (net(attack.perturb(net, x, y, ball, source())).argmax(1) == y).float().mean().item()

    cosines = []
    for image, label, near in zip(x, y, x + ball.start(x, source()), strict=True):
        pair = []
        for at in (image, near):
            point = at.clone().requires_grad_()
            F.cross_entropy(net(point[None]), label[None]).backward()
            assert point.grad is not None
            pair.append(point.grad.flatten())
        cosines.append(F.cosine_similarity(pair[0], pair[1], dim=0).item())
    net.zero_grad()
    return Health(accuracy(training), accuracy(config.guard.attack), sum(cosines) / len(cosines))


@pytest.mark.parametrize("threat", ["{norm: L2, eps: 0.3}", "{norm: Linf, eps: 0.02}"])
@pytest.mark.parametrize("attack", ["{name: fgsm_rs}", "{name: nfgsm}"])
def test_it_measures_what_it_says_whatever_the_batch_size(threat: str, attack: str, tiny: Tiny, world: World) -> None:
    changes = [
        LADDER,
        f"threat={threat}",
        f"attack={attack}",
        "guard.ladder=[]",
        "guard.images=11",
        "model.options.width=4",
    ]
    config = tiny(*changes)
    torch.manual_seed(1)
    net = config.model.build(3).eval()
    expected = directly(net, config, config.attack)
    for size in (1, 5, 50):
        found = examined(net, config.data.path, tiny(*changes, f"evaluation.batch_size={size}"), world)
        assert (found.seen, found.strong) == pytest.approx((expected.seen, expected.strong))
        assert found.alignment == pytest.approx(expected.alignment, abs=1e-4)
    assert abs(expected.alignment) < 1


def test_it_looks_at_the_network_in_eval_mode_and_leaves_it_as_it_was(tiny: Tiny, world: World) -> None:
    config = tiny(LADDER)
    net = config.model.build(3).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pauses: list[None] = []
    split = read_splits(config.data.path)[0]
    Guard(config).examine(net, split, world, lambda: pauses.append(None))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert len(pauses) == 2, "9 images in batches of 5"
