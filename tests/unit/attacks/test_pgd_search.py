"""PGD for measuring: it stops where it has succeeded, and finds what PGD finds."""

from itertools import pairwise

import pytest
import torch

from hpcfast.attacks import rng
from hpcfast.attacks.norms import L1, L2, Ball, Linf
from hpcfast.attacks.pgd import Pgd
from tests.unit.nets import ball_name, trained_digits

in_every_norm = pytest.mark.parametrize("ball", [Linf(0.1), L2(0.6), L1(3.0)], ids=ball_name)


@in_every_norm
def test_it_fools_what_pgd_fools(ball: Ball) -> None:
    model, x, y = trained_digits()
    attack, ids = Pgd(name="pgd", steps=20), torch.arange(100)
    found, expected = (each(model, x, y, ball, rng.per_image(0, ids)) for each in (attack.search, attack.perturb))
    fooled, also = (model(each).argmax(1) != y for each in (found, expected))
    assert 5 < also.sum() < 95, "pick an eps that decides something"
    assert (fooled >= also).all(), "an image that the last step fools was fooled on the way, or there"
    assert int(fooled.sum() - also.sum()) <= 2
    assert ball.length(found - x).max() <= ball.eps * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1


def test_images_that_hold_end_where_pgd_ends() -> None:
    model, x, y = trained_digits()
    ball, attack, ids = L2(0.5), Pgd(name="pgd", steps=10), torch.arange(100)
    found, expected = (each(model, x, y, ball, rng.per_image(0, ids)) for each in (attack.search, attack.perturb))
    held = model(found).argmax(1) == y
    assert held.any()
    torch.testing.assert_close(found[held], expected[held], rtol=0, atol=1e-4)


def test_images_that_are_fooled_leave_the_batch() -> None:
    model, x, y = trained_digits()
    seen: list[int] = []
    hook = model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    try:
        Pgd(name="pgd", steps=30).search(model, x, y, L2(0.6), rng.per_image(0, torch.arange(100)))
    finally:
        hook.remove()
    sizes = sorted(set(seen), reverse=True)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 30
    assert 1 < len(sizes) < 12
    assert all(small <= 0.75 * large for large, small in pairwise(sizes))


def test_it_ends_when_all_are_fooled() -> None:
    model, x, y = trained_digits()
    seen: list[int] = []
    hook = model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    try:
        Pgd(name="pgd", steps=50).search(model, x, y, L2(20.0), rng.per_image(0, torch.arange(100)))
    finally:
        hook.remove()
    assert len(seen) < 20


def test_each_restart_is_a_try() -> None:
    assert list(Pgd(name="pgd", restarts=3).tries(L2(1.0), 10)) == ["pgd 1", "pgd 2", "pgd 3"]
