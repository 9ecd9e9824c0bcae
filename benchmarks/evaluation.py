"""Robust accuracy of one fast model on Fashion-MNIST, L2 1.5, one core: the same network, images and attack.

torchattacks knows no restarts: ten calls attack every image ten times, MultiAttack leaves out those that are fooled.
AutoAttack is APGD-CE and targeted APGD, which do nearly all of its work, by pyautoattack alone and by
``hpcfast eval``, which calls it. No limit is known: what an attack needs depends on the images.
"""

from collections.abc import Callable

import torch
import torchattacks
from pyautoattack import AutoAttack
from torch import Tensor, nn

from benchmarks import Bench, recipe
from benchmarks.table import Row, compare
from hpcfast.attacks import Attack
from hpcfast.attacks.apgd import Apgd
from hpcfast.attacks.pgd import Pgd
from hpcfast.bench import take_turns
from hpcfast.config import Check
from hpcfast.data import feed
from hpcfast.data.reader import read_splits
from hpcfast.data.split import spread
from hpcfast.evaluation import evaluate

TITLE = "Evaluation"


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    steps, restarts, images, rounds = (2, 2, 20, 1) if bench.short else (50, 10, 100, 3)
    apgd_images = 4 if bench.short else 30
    config = recipe.read(bench, "threat.eps=1.5", "data.images=10000", "epochs=1", "schedule={name: cosine}")
    train, val = read_splits(config.data.path)
    model = recipe.trained(bench, config, train.some(config.data.images)).result.eval()
    theirs = _contiguous(bench, config.model.build(len(val.classes)), model)
    eps, alpha = config.threat.eps, 2.5 * config.threat.eps / steps

    def own(attack: Attack, images: int) -> Callable[[], object]:
        check = Check(attack=attack, images=images)
        return lambda: evaluate(model, val, config, check, bench.world)

    def images_of(count: int) -> tuple[Tensor, Tensor]:
        ids, shard = spread(len(val), count), feed.Shard.of(bench.world, 1)
        x, y, _ = next(feed.batches(val, ids, config.data, shard, len(ids), None))
        return x.contiguous(), y

    def attack() -> torchattacks.attack.Attack:
        return torchattacks.PGDL2(theirs, eps=eps, alpha=alpha, steps=steps)

    x, y = images_of(images)
    few = images_of(apgd_images)
    taken = take_turns(
        {
            f"hpcfast, PGD-{steps} x {restarts}": own(Pgd(name="pgd", steps=steps, restarts=restarts), images),
            f"torchattacks, {restarts} calls": lambda: [theirs(attack()(x, y)) for _ in range(restarts)],
            "torchattacks, MultiAttack": lambda: torchattacks.MultiAttack([attack() for _ in range(restarts)])(x, y),
            "hpcfast, AutoAttack's APGD": own(Apgd(name="apgd"), apgd_images),
            "pyautoattack": lambda: _autoattack(theirs, eps).run_standard_evaluation(*few),
        },
        rounds,
        warm=False,
    )
    pgd, calls, multi, apgd, plain = taken
    return [
        compare(taken, pgd, calls, "folded BatchNorm, channels-last; fooled images drop out, also within a run"),
        compare(taken, pgd, multi, "folded BatchNorm, channels-last; fooled images drop out within a run"),
        compare(taken, apgd, plain, "folded BatchNorm, channels-last; the steps are the same code"),
    ]


def _contiguous(bench: Bench, fresh: nn.Module, model: nn.Module) -> nn.Module:
    """As their users have it: torchvision and torch.load give contiguous networks."""
    fresh.load_state_dict(model.state_dict())
    return fresh.to(bench.world.device).to(memory_format=torch.contiguous_format).eval()


def _autoattack(model: nn.Module, eps: float) -> AutoAttack:
    """With one run of each attack, as its standard version has them."""
    attack = AutoAttack(model, norm="L2", eps=eps, version="custom", attacks=["apgd-ce", "apgd-t"])
    attack.apgd.n_restarts = 1
    return attack
