"""The gradient noise scale, where it is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.training import train
from hpcfast.training.noise_scale import NoiseScale, NoiseScaleMeter

CPU = torch.device("cpu")
SIZE, NOISE, DISTANCE = 10, 0.5, 2.0
"""Linear regression of Gaussian inputs: y = w x + NOISE * normal, at DISTANCE from w."""
KNOWN = (SIZE + 1) + SIZE * NOISE**2 / DISTANCE**2
"""One image's gradient has the mean d, of length DISTANCE, and a covariance of trace (SIZE + 1) d^2 + SIZE NOISE^2."""


def regression() -> tuple[nn.Linear, Callable[[int], Tensor]]:
    """A model, and the mean loss of so many new images."""
    model = nn.Linear(SIZE, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()[0, 0] = DISTANCE  # the true weights are zero
    generator = torch.Generator().manual_seed(0)

    def loss(n: int) -> Tensor:
        x, noise = torch.randn(n, SIZE, generator=generator), torch.randn(n, 1, generator=generator)
        return (model(x) - NOISE * noise).square().mean() / 2

    return model, loss


def measure(batch: int, passes: int, times: int, scale: float = 1.0) -> NoiseScale:
    model, loss = regression()
    gauge, found = NoiseScaleMeter(model, CPU), NoiseScale()
    for _ in range(times):
        model.zero_grad()
        gauge.start()
        for _ in range(passes):
            (scale * loss(batch) / passes).backward()
            gauge.stop()
        gauge.compare(passes, lambda: scale)
    found.add(*gauge.take(), small=batch, large=batch * passes)
    assert gauge.take() == (0, 0, 0)
    return found


@pytest.mark.parametrize(("batch", "passes"), [(4, 8), (8, 4), (16, 4)])
def test_it_is_the_known_one_whatever_the_batches(batch: int, passes: int) -> None:
    found = measure(batch, passes, 400)
    assert found.n == 400
    assert found.gradient == pytest.approx(400 * DISTANCE**2, rel=0.1)
    assert found.images == pytest.approx(KNOWN, rel=0.2)


def test_the_scale_of_the_loss_changes_nothing() -> None:
    assert measure(4, 2, 20, 2.0**10).images == pytest.approx(measure(4, 2, 20).images, rel=1e-4)


def test_what_overflowed_counts_for_nothing() -> None:
    assert measure(4, 2, 3, 1e30).n == 0
    assert measure(4, 2, 3, 1e30).images is None


def test_without_a_gradient_there_is_none() -> None:
    found = NoiseScale()
    found.add(local=1.0, mean=0.2, n=1, small=1, large=4)  # as of noise alone, and a little less
    assert found.gradient < 0
    assert found.images is None


@pytest.mark.parametrize(("accumulate", "measured"), [(1, 0), (2, 2)])
def test_one_rank_measures_it_where_it_adds_batches_up(
    accumulate: int, measured: int, tiny: Callable[..., RunConfig], world: World
) -> None:
    summary = train.train(tiny("epochs=2", f"accumulate={accumulate}", "evaluation.every=0"), world)
    assert summary["noise_scale_measurements"] == measured
    assert (summary["noise_scale"] is None) or measured
