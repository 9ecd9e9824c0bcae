"""A training step on one core, on images of noise, ResNet-18 at 32 pixels.

The limit is arithmetic: passes over the network, forward, back to the images, back to the weights. A standard step is
three, of which the last two are as dear as the first; a fast step five; PGD-7 seventeen.
"""

from collections.abc import Callable

import torch

from benchmarks import Bench, ours
from benchmarks.peers import Peer, Robustness
from benchmarks.table import Row, compare
from hpcfast.bench import take_turns
from hpcfast.data import Batch
from hpcfast.training.step import Learner

TITLE = "A training step"
CLASSES = 10
STANDARD, FAST, PGD = 3, 5, 17
"""Passes. foolbox and robustness look once more at what they found: one more."""


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    width, batch, rounds = (2, 2, 1) if bench.short else (64, 16, 7)
    taken = take_turns(_cases(bench, width, batch), rounds)
    eval_mode = "it attacks with BatchNorm in eval mode, which spares statistics"
    fast, bf16 = "hpcfast fast, fp32", "hpcfast fast, bf16"
    layout = "channels-last weights, no weight gradients in the attack"
    return [
        compare(taken, fast, "hpcfast standard, fp32", "the weights' gradients and their update, which both have once, "
                "take longer than a third; then it may fall below the limit", FAST / STANDARD, 1.70),
        compare(taken, bf16, "standard, fp32, contiguous", "the CPU's bf16 units and channels-last", asked=0.90),
        compare(taken, fast, "reference way", layout, FAST / 6),
        compare(taken, bf16, "reference way", f"{layout}, bf16"),
        compare(taken, fast, "torchattacks, 1 step", f"channels-last; {eval_mode}", 1.0),
        compare(taken, fast, "foolbox, 1 step", f"channels-last; {eval_mode}", FAST / 6),
        compare(taken, fast, "robustness, 1 step", f"channels-last; {eval_mode}", FAST / 6),
        compare(taken, "hpcfast PGD-7, fp32", "torchattacks, 7 steps", f"channels-last; {eval_mode}", 1.0),
        compare(taken, "hpcfast PGD-7, fp32", "foolbox, 7 steps", f"channels-last; {eval_mode}", PGD / 18),
        compare(taken, "hpcfast PGD-7, fp32", "robustness, 7 steps", f"channels-last; {eval_mode}", PGD / 18),
        compare(taken, bf16, "robustness, 7 steps", "one step instead of seven, bf16"),
    ]  # fmt: skip


def _cases(bench: Bench, width: int, batch: int) -> dict[str, Callable[[], object]]:
    size = 8 if bench.short else 32
    device = bench.world.device
    x = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    y = (torch.arange(batch) % CLASSES).to(device)

    def own(attack: dict[str, object], precision: str) -> Callable[[], object]:
        config = ours.config("cifar_resnet18", {"width": width}, size, batch, attack=attack, precision=precision)
        learner = Learner(config, CLASSES, bench.world)
        learner.model.train()
        batches = [Batch(x, y, torch.arange(batch))]
        return lambda: learner.step(batches, config.attack, config.optim.lr, 0).item()

    config = ours.config("cifar_resnet18", {"width": width}, size, batch)
    peer, robustness = Peer(config, CLASSES, device), Robustness(config, CLASSES, device)
    return {
        "standard, fp32, contiguous": lambda: peer.step(x, y),
        "hpcfast standard, fp32": own({"name": "standard"}, "fp32"),
        "hpcfast fast, fp32": own({"name": "fgsm_rs"}, "fp32"),
        "hpcfast fast, bf16": own({"name": "fgsm_rs"}, "bf16"),
        "hpcfast PGD-7, fp32": own({"name": "pgd", "steps": 7}, "fp32"),
        "reference way": lambda: peer.step(x, y, peer.reference),
        "torchattacks, 1 step": lambda: peer.step(x, y, peer.torchattacks(1)),
        "foolbox, 1 step": lambda: peer.step(x, y, peer.foolbox(1)),
        "robustness, 1 step": lambda: robustness.train(x, y, 1),
        "torchattacks, 7 steps": lambda: peer.step(x, y, peer.torchattacks(7)),
        "foolbox, 7 steps": lambda: peer.step(x, y, peer.foolbox(7)),
        "robustness, 7 steps": lambda: robustness.train(x, y, 7),
    }
