"""Losses that count by class."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.runs import events
from hpcfast.training import train
from hpcfast.training.step import Learner
from tests.unit.training.test_learner import PLAIN, batch

Tiny = Callable[..., RunConfig]
LABELS = np.array([0] * 6 + [1] * 3 + [2])
WEIGHTS = torch.tensor([10 / 18, 10 / 9, 10 / 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_cross_entropy_with_weights_that_are_1_in_the_mean(
    tiny: Tiny, world: World, smoothing: float
) -> None:
    config = tiny(PLAIN, "attack={name: standard}", f"label_smoothing={smoothing}")
    learner, (x, y, _) = Learner(config, 3, world, labels=LABELS), batch(n=16)
    logits = learner.model(x)
    each = torch.stack([WEIGHTS[t] * F.cross_entropy(row, t, label_smoothing=smoothing) for row, t in zip(logits, y)])  # noqa: B905
    loss = learner.step([Batch(x, y, torch.arange(16))], config.attack, 0.0, 0)
    assert loss.item() == pytest.approx(each.mean().item(), rel=1e-5)
    assert WEIGHTS[LABELS].mean() == pytest.approx(1)


def test_the_shares_of_ranks_make_the_whole(tiny: Tiny, world: World) -> None:
    """Also where one has only images of a rare class."""
    config = tiny(PLAIN, "attack={name: standard}", "accumulate=2")
    learner, (x, _, ids) = Learner(config, 3, world, labels=LABELS), batch(n=8)
    y = torch.tensor([2, 2, 2, 2, 0, 0, 1, 1])
    logits = learner.model(x)
    whole = (F.cross_entropy(logits, y, reduction="none") * WEIGHTS[y]).mean().item()
    halves = [Batch(x[:4], y[:4], ids[:4]), Batch(x[4:], y[4:], ids[4:])]
    assert learner.step(halves, config.attack, 0.0, 0).item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("attack", ["standard", "fgsm_rs", "nfgsm", "pgd", "free", "gradalign", "mixed"])
def test_weights_scale_the_loss_of_every_method_and_change_no_attack(tiny: Tiny, world: World, attack: str) -> None:
    """Images of one class: were they attacked otherwise, the loss would not be so many times the other."""
    settings = {
        "gradalign": ", weight: 1e-9",  # what it adds is not weighted
        "mixed": ", threats: [{norm: L2, eps: 1}, {norm: Linf, eps: 0.1}], attack: {name: fgsm_rs}",
    }
    config = tiny(PLAIN, f"attack={{name: {attack}{settings.get(attack, '')}}}", "label_smoothing=0.1")
    x, _, ids = batch(n=16)
    images = [Batch(x, torch.full((16,), 2), ids)]
    plain, weighted = (Learner(config, 3, world, labels=labels) for labels in (None, LABELS))
    losses = [learner.step(images, config.attack, 0.0, 0).item() for learner in (plain, weighted)]
    assert losses[1] == pytest.approx(losses[0] * WEIGHTS[2].item(), rel=1e-5)


def test_on_equal_shares_weights_are_torchs_own_but_for_their_sum(tiny: Tiny, world: World) -> None:
    config = tiny(PLAIN, "attack={name: standard}")
    learner, (x, y, ids) = Learner(config, 3, world, labels=LABELS), batch(n=16)
    theirs = F.cross_entropy(learner.model(x), y, weight=WEIGHTS).item() * WEIGHTS[y].mean().item()
    assert learner.step([Batch(x, y, ids)], config.attack, 0.0, 0).item() == pytest.approx(theirs, rel=1e-5)


def test_a_run_is_told_the_classes_of_what_it_trains_on(tiny: Tiny, world: World) -> None:
    """All classes have as many images there, so that weights change nothing; without labels it would not run."""
    losses = []
    for name, rule in (("plain", "none"), ("weighted", "balanced")):
        config = tiny(f"name={name}", f"class_weights={rule}", "epochs=1", "log_every=1")
        train.train(config, world)
        log = events.read(config.folder / "events.jsonl")
        losses.append([event["value"] for event in log if event["key"] == "train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
