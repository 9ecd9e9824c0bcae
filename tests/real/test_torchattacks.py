"""What torchattacks' own test suite asks of each of its attacks, asked of ours on a network that others trained.

Its test_atks.py runs all attacks with their default settings and wants that no fewer images are misclassified after
than before. Of its attacks these are those that hpcfast has.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchattacks
from torch import nn

import hpcfast
from tests.real.networks import Case

OURS: dict[str, Callable[[nn.Module], hpcfast.api.attacks.Attack]] = {
    "FGSM": partial(hpcfast.FGSM, start="zero"),
    "FFGSM": hpcfast.FGSM,
    "PGD": hpcfast.PGD,
    "PGDL2": partial(hpcfast.PGD, norm="L2", eps=1.0),
    "APGD": partial(hpcfast.APGD, steps=10, targets=0),
    "APGDT": partial(hpcfast.APGD, steps=10),
    "Square": partial(hpcfast.Square, queries=5000),
    "AutoAttack": hpcfast.AutoAttack,
}
IMAGES = 5
"""As there."""


@pytest.mark.real
@pytest.mark.parametrize("name", OURS)
def test_an_attack_makes_nothing_better(thin: Case, name: str) -> None:
    assert name in torchattacks.__all__
    model = thin.network()
    data = hpcfast.loader(thin.data, size=32, batch_size=IMAGES)
    x, y = next(iter(data))
    clean = (model(x).argmax(1) == y).float().mean()
    torch.manual_seed(0)
    robust = (model(OURS[name](model)(x, y)).argmax(1) == y).float().mean()
    assert robust <= clean
    if name not in ("FGSM", "FFGSM"):
        assert robust == 0, "no network that was trained as usual withstands 8/255"
