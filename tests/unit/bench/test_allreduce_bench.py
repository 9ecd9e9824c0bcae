"""The benchmark of allreduces: what it fits, and whom it refuses. See test_profile.py for the rest."""

import pytest

from hpcfast.bench import allreduce
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError

SIZES = list(allreduce.SIZES)


@pytest.mark.parametrize(("latency", "rate"), [(1e-3, 1e8), (1e-5, 1e10), (0.0, 1e9)])
def test_the_line_is_the_one_that_the_times_lie_on(latency: float, rate: float) -> None:
    found = allreduce.line(SIZES, [latency + size / rate for size in SIZES])
    assert found == pytest.approx((latency, rate), rel=1e-6, abs=1e-9)


def test_small_messages_count_as_much_as_large_ones() -> None:
    """One slow large message, twice what it should be, must not make latency vanish or explode."""
    seconds = [1e-3 + size / 1e8 for size in SIZES]
    latency, _ = allreduce.line(SIZES, [*seconds[:-1], 2 * seconds[-1]])
    assert latency == pytest.approx(1e-3, rel=0.2)


def test_times_that_fall_with_size_give_no_negative_rate() -> None:
    latency, rate = allreduce.line([1000, 10**6], [2e-3, 1e-3])
    assert latency > 0
    assert rate == float("inf")


def test_one_rank_is_refused(world: World) -> None:
    with pytest.raises(UserError, match="one rank has no peer to send to; start it under horovodrun"):
        allreduce.measure("cifar_resnet8", 1, world)
