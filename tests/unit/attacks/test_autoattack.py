"""AutoAttack in tries: as strong as the authors' own code on the same model and images, in every norm."""

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from hpcfast.attacks import Attack, autoattack, rng
from hpcfast.attacks.autoattack import Autoattack
from hpcfast.attacks.norms import L1, L2, Ball, Linf
from hpcfast.attacks.square import Square
from tests.oracles import shorten
from tests.unit.nets import ball_name, linear, trained_digits

PUBLISHED = autoattack.STEPS, autoattack.TARGETS, autoattack.QUERIES, autoattack.SAMPLES
N, STEPS, QUERIES = 30, 20, 100
BALLS = [Linf(0.1), L2(0.5), L1(3.0)]
in_every_norm = pytest.mark.parametrize("ball", BALLS, ids=ball_name)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks are those of the standard version, but for their number of steps."""
    monkeypatch.setattr(autoattack, "STEPS", STEPS)
    monkeypatch.setattr(autoattack, "QUERIES", QUERIES)
    # It would end the tracing of this process, and with it all measuring of coverage.
    monkeypatch.setattr("pyautoattack.checks.check_dynamic", lambda *_, **__: None)


def holds(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) == y


def worst_of(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, classes: int = 10) -> Tensor:
    """The images after all tries, each at those that stood until then, as an evaluation runs them."""
    worst, held = x.clone(), torch.arange(len(x))
    for number, attempt in enumerate(attack.tries(ball, classes).values()):
        if len(held):
            worst[held] = attempt(model, x[held], y[held], ball, rng.per_image(0, held, number))
            held = held[holds(model, worst[held], y[held])]
    return worst


def assert_inside(ball: Ball, x: Tensor, x_adv: Tensor) -> None:
    assert ball.length(x_adv.double() - x.double()).max() <= ball.eps * (1 + 1e-6) + 1e-6
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@in_every_norm
def test_as_many_images_hold_as_under_the_authors_code(ball: Ball) -> None:
    model, x, y = (trained_digits()[0], *(each[:N] for each in trained_digits()[1:]))
    ours = worst_of(Autoattack(name="autoattack"), model, x, y, ball)
    assert_inside(ball, x, ours)
    theirs = AutoAttack(model, norm=type(ball).__name__, eps=ball.eps, seed=0)
    theirs.fab.n_iter = STEPS
    for attack in (theirs.apgd, theirs.apgd_targeted):
        shorten(attack, STEPS)
    theirs.square.n_queries, theirs.verbose = QUERIES, False
    with torch.random.fork_rng():
        images, _ = theirs.run_standard_evaluation(x, y, batch_size=N)
    counts = [int(holds(model, each, y).sum()) for each in (ours, images)]
    assert 2 < counts[1] < N - 2, f"{ball_name(ball)} decides nothing: {counts[1]} of {N} hold"
    assert abs(counts[0] - counts[1]) <= 1, f"{counts[0]} hold here, {counts[1]} under pyautoattack"


@in_every_norm
def test_the_random_version_finds_adversarial_images_too(ball: Ball) -> None:
    model, x, y = (trained_digits()[0], *(each[:8] for each in trained_digits()[1:]))
    attack = Autoattack(name="autoattack", version="rand")
    assert list(attack.tries(ball, 10)) == ["apgd-ce", "apgd-dlr"]
    x_adv = worst_of(attack, model, x, y, type(ball)(4 * ball.eps))
    assert_inside(type(ball)(4 * ball.eps), x, x_adv)
    assert not holds(model, x_adv, y).any()


@pytest.mark.parametrize(
    ("ball", "classes", "starts", "targets", "fab"),
    [(L2(1), 10, 1, 9, 9), (Linf(1), 3, 1, 2, 2), (Linf(1), 2, 1, 0, 1), (L1(1), 100, 5, 5, 9)],
)
def test_the_tries_are_those_of_the_standard_version(
    ball: Ball, classes: int, starts: int, targets: int, fab: int
) -> None:
    names = list(Autoattack(name="autoattack").tries(ball, classes))
    assert [sum(name.startswith(kind) for name in names) for kind in ("apgd-ce", "apgd-t", "fab-t")] == [
        starts,
        targets,
        fab,
    ]
    assert names[0].startswith("apgd-ce")
    assert names[-1] == "square"
    assert len(names) == starts + targets + fab + 1


def test_steps_targets_queries_and_samples_are_the_authors() -> None:
    theirs, random = (AutoAttack(linear(), norm="L2", eps=1.0, version=each) for each in ("standard", "rand"))
    assert {theirs.apgd.n_iter, theirs.apgd_targeted.n_iter, theirs.fab.n_iter, random.apgd.n_iter} == {PUBLISHED[0]}
    assert theirs.apgd_targeted.n_target_classes == theirs.fab.n_target_classes == PUBLISHED[1]
    assert theirs.square.n_queries == PUBLISHED[2]
    assert random.apgd.eot_iter == PUBLISHED[3]


@in_every_norm
def test_square_repeats_itself_and_leaves_the_global_generator_alone(ball: Ball) -> None:
    model, x, y = (trained_digits()[0], *(each[:N] for each in trained_digits()[1:]))
    attack, wide = Square(name="square", queries=50), type(ball)(3 * ball.eps)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first, again = (attack.perturb(model, x, y, wide, rng.per_image(0, torch.arange(N))) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    alone = attack.perturb(model, x[3:4], y[3:4], wide, rng.per_image(0, torch.arange(3, 4)))
    assert torch.equal(first[3:4], alone), "whatever it is attacked together with"
    assert_inside(wide, x, first)
    assert not holds(model, first, y).all()


def test_all_tries_in_one_batch_are_the_worst_of_them() -> None:
    model, x, y = (trained_digits()[0], *(each[:10] for each in trained_digits()[1:]))
    ball = L2(0.5)
    whole = Autoattack(name="autoattack").perturb(model, x, y, ball, rng.per_image(0, torch.arange(10)))
    apart = worst_of(Autoattack(name="autoattack"), model, x, y, ball)
    assert abs(int(holds(model, whole, y).sum()) - int(holds(model, apart, y).sum())) <= 1


def test_images_that_fab_finds_outside_the_ball_do_not_count() -> None:
    model, x = linear(4), torch.full((3, 2, 3, 3), 0.5)
    with torch.no_grad():
        y = model(x).argmax(1)
    fab = Autoattack(name="autoattack").tries(L2(1e-4), 4)["fab-t 1"]
    assert torch.equal(fab(model, x, y, L2(1e-4), torch.Generator()), x)
    assert not holds(model, fab(model, x, y, L2(20.0), torch.Generator()), y).any()
