"""Robust accuracy of others' weights on real images is what torchattacks and pyautoattack leave standing.

Attacks without random numbers must do the same to every image but those on the edge, which rounding decides; the
random ones about as much.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from hpcfast.attacks.norms import L2, Linf
from hpcfast.distributed.comm import World
from tests.oracles import shorten
from tests.real.measuring import Found, measured
from tests.real.networks import Case, pixels

pytestmark = pytest.mark.real

STEPS = 10
BATCH = 50
Theirs = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Which images hold, shape (n,), bool."""


class Watched(nn.Module):
    """A network that notes which images it ever took for something else: here PGD counts all its steps."""

    def __init__(self, network: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.network, self.y, self.held = network, y, torch.ones(len(y), dtype=torch.bool)
        self.eval()  # torchattacks gives a model the mode back that it had, and its parts too

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        self.held &= logits.argmax(1) == self.y
        return logits


def fgsm(norm: str, eps: float) -> Theirs:
    """One step of eps from the image itself."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = (
            torchattacks.FGSM(network, eps=eps)
            if norm == "Linf"
            else torchattacks.PGDL2(network, eps=eps, alpha=eps, steps=1, random_start=False)
        )
        return network(attack(x, y)).argmax(1) == y

    return run


def pgd(norm: str, eps: float, start: bool) -> Theirs:
    def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        watched = Watched(network, y)
        kind = torchattacks.PGD if norm == "Linf" else torchattacks.PGDL2
        attack = kind(watched, eps=eps, alpha=2.5 * eps / STEPS, steps=STEPS, random_start=start)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            watched(attack(x, y))
        return watched.held

    return run


def apgd(norm: str, eps: float, steps: int, targets: int) -> Theirs:
    """AutoAttack's first two attacks, by the authors' own code."""

    def run(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from pyautoattack import AutoAttack

        theirs = AutoAttack(network, norm=norm, eps=eps, seed=0, version="custom", attacks=["apgd-ce", "apgd-t"])
        for attack in (theirs.apgd, theirs.apgd_targeted):
            shorten(attack, steps)
            attack.n_restarts = 1  # as in the standard version
        theirs.apgd_targeted.n_target_classes, theirs.verbose = targets, False
        with torch.random.fork_rng():
            images, _ = theirs.run_standard_evaluation(x, y, batch_size=len(x))
        return network(images).argmax(1) == y

    return run


def compare(case: Case, found: Found, name: str, theirs: Theirs) -> tuple[int, int, int]:
    """How many images hold here, how many under ``theirs``, and on how many the two disagree."""
    network, held = case.network(), []
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for i in range(0, len(found.files), BATCH):
        x, y = pixels(found.files[i : i + BATCH]), torch.tensor(found.truth[i : i + BATCH])
        right = network(x).argmax(1) == y
        stood = torch.zeros(len(y), dtype=torch.bool)
        if right.any():
            stood[right] = theirs(network, x[right], y[right])
        held += stood.tolist()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    differ = sum(a != b for a, b in zip(found.held, held, strict=True))
    n = len(held)
    print(f"{case.arch}, {name}: {sum(found.held)} of {n} hold here, {sum(held)} there; {differ} differ")
    assert 0.1 < sum(held) / n < 0.75, "choose an eps that decides something"
    return sum(found.held), sum(held), differ


def settings(attack: str, norm: str, eps: float, images: int) -> list[str]:
    return [
        f"evaluation.final.attack={attack}",
        f"threat.norm={norm}",
        f"threat.eps={eps}",
        f"evaluation.final.images={images}",
    ]


def deterministic(
    case: Case, norm: str, eps: float, images: int, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ball in (Linf, L2):
        monkeypatch.setattr(ball, "start", lambda self, x, source: torch.zeros_like(x))
    few = max(1, images // 100)
    for name, attack, theirs in (
        ("FGSM", "{name: fgsm_rs, start: zero}", fgsm(norm, eps)),
        (f"PGD-{STEPS} from the image", f"{{name: pgd, steps: {STEPS}}}", pgd(norm, eps, start=False)),
    ):
        found = measured(case, world, folder, *settings(attack, norm, eps, images))
        assert compare(case, found, f"{norm} {eps:.4f}, {name}", theirs)[2] <= few


def random(
    case: Case, norm: str, eps: float, images: int, world: World, folder: Path, steps: int, targets: int
) -> None:
    for name, attack, theirs in (
        (f"PGD-{STEPS}", f"{{name: pgd, steps: {STEPS}}}", pgd(norm, eps, start=True)),
        (f"APGD-{steps}, {targets} targets", f"{{name: apgd, steps: {steps}, targets: {targets}}}",
         apgd(norm, eps, steps, targets)),
    ):  # fmt: skip
        found = measured(case, world, folder, *settings(attack, norm, eps, images))
        here, there, _ = compare(case, found, f"{norm} {eps:.4f}, {name}", theirs)
        assert abs(here - there) <= max(1, 0.02 * images)


def balls(linf: float, l2: float) -> pytest.MarkDecorator:
    """Of a size that leaves about half of the images standing, so that every image has a say."""
    return pytest.mark.parametrize(("norm", "eps"), [("Linf", linf), ("L2", l2)], ids=["Linf", "L2"])


@balls(0.5 / 255, 0.06)
def test_attacks_without_random_numbers_on_cifar10(
    thin: Case, norm: str, eps: float, full: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not full and thin.arch != "cifar_resnet20":
        pytest.skip("HPCFAST_REAL=full measures it")
    deterministic(thin, norm, eps, 300 if full else 100, world, tmp_path, monkeypatch)


@balls(0.5 / 255, 0.06)
def test_random_attacks_on_cifar10(thin: Case, norm: str, eps: float, full: bool, world: World, tmp_path: Path) -> None:
    if not full and thin.arch != "cifar_resnet20":
        pytest.skip("HPCFAST_REAL=full measures it")
    random(thin, norm, eps, 300 if full else 60, world, tmp_path, *((20, 3) if full else (10, 2)))


@balls(0.25 / 255, 0.2)
def test_attacks_without_random_numbers_on_photographs(
    lite: Case, norm: str, eps: float, full: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not full and norm == "L2":
        pytest.skip("HPCFAST_REAL=full measures it")
    deterministic(lite, norm, eps, 100 if full else 10, world, tmp_path, monkeypatch)


@balls(0.25 / 255, 0.2)
def test_random_attacks_on_photographs(
    lite: Case, norm: str, eps: float, full: bool, world: World, tmp_path: Path
) -> None:
    if not full:
        pytest.skip("HPCFAST_REAL=full measures it")
    random(lite, norm, eps, 100, world, tmp_path, steps=20, targets=3)
