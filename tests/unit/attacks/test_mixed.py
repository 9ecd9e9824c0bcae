"""Training against mixed threats: a ball for each image."""

import pytest
import torch

from hpcfast import component
from hpcfast.attacks import rng
from hpcfast.attacks.gradalign import Gradalign
from hpcfast.attacks.mixed import Mixed
from hpcfast.attacks.norms import L2, Linf, RowWise
from tests.unit.attacks.test_methods import THREATS, generator, inputs_of, lengths, mixed
from tests.unit.nets import BALLS, linear, pictures


def test_a_row_wise_ball_is_each_rows_own() -> None:
    x, _ = pictures(40)
    balls, choice = [Linf(0.1), L2(0.5), L2(0.2)], torch.arange(40) % 3
    union, delta = RowWise(balls, choice), torch.randn(40, 2, 3, 3, generator=generator())
    for i, ball in enumerate(balls):
        rows = choice == i
        assert torch.equal(union.normalise(delta)[rows], ball.normalise(delta)[rows])
        assert torch.equal(union.project(delta)[rows], ball.project(delta)[rows])
        assert (lengths(ball, union.random(x, generator())[rows]) <= ball.eps + 1e-6).all()
        assert (union.eps.flatten()[rows] == torch.tensor(ball.eps)).all()


def test_every_image_of_a_mixture_is_in_one_of_the_balls_and_all_are_drawn() -> None:
    x, y = torch.full((200, 2, 3, 3), 0.5), torch.arange(200) % 3
    threats = [{"norm": "Linf", "eps": 0.1}, {"norm": "L2", "eps": 0.1}]
    method = component.validate(Mixed, {"name": "mixed", "threats": threats, "attack": {"name": "fgsm_rs"}})
    delta = method.perturb(linear(), x, y, L2(9.0), generator()) - x
    cube, sphere = lengths(Linf(0.1), delta) <= 0.1 + 1e-6, lengths(L2(0.1), delta) <= 0.1 + 1e-6
    assert (cube | sphere).all()
    assert 70 < sphere.sum() < 130, f"{sphere.sum()} of 200 images got the second of two threats"


def test_a_mixture_gives_each_image_what_its_own_threat_would() -> None:
    """With the starts of the union, the step from each row is that of the row's own ball."""
    x, y = pictures(40)
    ids = torch.arange(40)
    draws = torch.cat([rng.uniform(x[:1, :1, :1, :1], [g]).flatten() for g in rng.per_image(0, ids)])
    x_adv = mixed(name="gradalign").perturb(linear(), x, y, L2(9.0), rng.per_image(0, ids))
    for i, ball in enumerate([Linf(8 / 255), L2(0.5)]):
        rows = (2 * draws).long() == i
        alone = Gradalign(name="gradalign").perturb(linear(), x[rows], y[rows], ball, generator())
        torch.testing.assert_close(x_adv[rows], alone, rtol=0, atol=1e-6)
        assert rows.any()


def test_a_mixture_attacks_whole_batches_once() -> None:
    x, y = pictures()
    model = linear()
    with inputs_of(model) as seen:
        mixed(name="fgsm_rs").perturb(model, x, y, BALLS[0], generator())
    assert [len(batch) for batch in seen] == [len(x)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attack": {"name": "pgd", "restarts": 2}}, ["attack", "restarts 2", "leave it at 1"]),
        ({"attack": {"name": "apgd"}}, ["attack", "'apgd' cannot be mixed", "e.g. fgsm_rs"]),
        (
            {"attack": {"name": "mixed", "threats": THREATS, "attack": {"name": "fgsm_rs"}}},
            ["attack", "'mixed' cannot be mixed", "e.g. fgsm_rs"],
        ),
        ({"threats": THREATS[:1]}, ["threats", "at least 2"]),
        ({"threats": [*THREATS, {"norm": "L3", "eps": 1}]}, ["threats.2.norm", "'L3'", "'L2'"]),
        ({"attack": {"name": "fgsm_rs", "alfa": 1}}, ["attack.alfa", "did you mean 'alpha'"]),
    ],
)
def test_a_mixture_that_cannot_work_is_refused_with_the_cure(settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(component.Invalid) as error:
        component.validate(Mixed, {"name": "mixed", "threats": THREATS, "attack": {"name": "fgsm_rs"}, **settings})
    for word in words:
        assert word in str(error.value)


def test_a_mixtures_settings_survive_being_written_and_read() -> None:
    method = mixed(name="nfgsm", noise=3)
    assert component.validate(Mixed, method.model_dump(mode="json")) == method
