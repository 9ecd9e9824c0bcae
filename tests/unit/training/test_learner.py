"""One training step: what it minimises, what it changes, and that a saved learner goes on as it would have."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.training.step import Learner
from tests.unit.whole_runs import different

Tiny = Callable[..., RunConfig]
PLAIN = "model={name: plain_net_of_tests, options: {}}"


@register_model
def plain_net_of_tests(pretrained: bool = False, **options: Any) -> nn.Module:
    """A network without BatchNorm, so that a batch's rows know nothing of each other."""
    return nn.Sequential(
        nn.Conv2d(options["in_chans"], 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(128, options["num_classes"])
    )


def batch(seed: int = 0, n: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 10, 10, generator=generator)
    return Batch(x, torch.randint(3, (n,), generator=generator), torch.arange(n))


def train(learner: Learner, steps: range, lr: float = 0.05) -> list[float]:
    return [learner.step([batch(s)], learner.config.attack, lr, seed=s).item() for s in steps]


def cloned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def test_two_half_batches_make_the_step_of_a_whole_one(tiny: Tiny, world: World) -> None:
    found = []
    for count in (1, 2, 4):
        config = tiny(PLAIN, "attack={name: fgsm_rs, start: zero}", f"accumulate={count}")
        learner = Learner(config, 3, world)
        total = []
        for step in range(3):
            parts = [Batch(*part) for part in zip(*(t.split(8 // count) for t in batch(step)), strict=True)]
            total.append(learner.step(parts, config.attack, 0.05, step).item())
        found.append((total, learner.model.state_dict()))
        assert learner.updates == 3
    for total, state in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-5)
        for name, weight in state.items():
            torch.testing.assert_close(weight, found[0][1][name])


def test_a_step_is_the_optimizers_on_the_loss_of_attacked_images(tiny: Tiny, world: World) -> None:
    """Written out: so the attack leaves nothing behind in weights, gradients, BatchNorm or the optimizer."""
    config = tiny("label_smoothing=0.1", "attack={name: pgd, steps: 2}")
    learner, other = Learner(config, 3, world), Learner(config, 3, world)
    plain = config.optim.build(other.model)
    for step in range(3):
        x, y, _ = batch(step)
        learner.step([batch(step)], config.attack, 0.07, seed=step)
        source = torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        x_adv = config.attack.perturb(other.model, x, y, config.threat.ball, source)
        plain.zero_grad()
        F.cross_entropy(other.model(x_adv), y, label_smoothing=0.1).backward()
        plain.param_groups[0]["lr"] = plain.param_groups[1]["lr"] = 0.07
        plain.step()
        assert not different(learner.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_label_smoothed_as_asked(smoothing: float, tiny: Tiny, world: World) -> None:
    config = tiny(f"label_smoothing={smoothing}", "attack={name: standard}")
    learner, other = Learner(config, 3, world), Learner(config, 3, world)
    x, y, _ = batch()
    log_p = other.model(x).log_softmax(1)
    right, mean = -log_p.gather(1, y[:, None]).mean(), -log_p.mean()
    assert train(learner, range(1))[0] == pytest.approx(((1 - smoothing) * right + smoothing * mean).item(), rel=1e-5)


def test_the_average_is_the_one_worked_out_by_hand(tiny: Tiny, world: World) -> None:
    """Decay of update t: 0 at the first, then 1 - t^(-2/3) (timm's warm-up), at most the one that is set."""
    learner = Learner(tiny("ema=0.6"), 3, world)
    assert learner.average is not None
    assert learner.result is learner.average.module
    expected: dict[str, Tensor] = {}
    decays = []
    for step in range(6):
        train(learner, range(step, step + 1))
        decays.append(min(0.6, 1 - (1 + step) ** (-2 / 3)))
        for name, weight in learner.model.state_dict().items():
            kept = expected.get(name, weight)
            expected[name] = decays[-1] * kept + (1 - decays[-1]) * weight if weight.is_floating_point() else weight
    assert decays[0] == 0
    assert 0 < decays[1] < 0.6 == decays[-1]
    for name, average in learner.result.state_dict().items():
        torch.testing.assert_close(average.double(), expected[name].double(), atol=1e-6, rtol=1e-5)
    assert different(learner.result.state_dict(), learner.model.state_dict())


def test_without_an_average_the_result_is_the_model(tiny: Tiny, world: World) -> None:
    learner = Learner(tiny(), 3, world)
    assert learner.result is learner.model


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["ema=0.9", "precision=fp16"],
        ["precision=bf16", "optim.name=adamw"],
        ["attack={name: free, replays: 2}", "ema=0.9"],
        ["optim.name=lamb", "label_smoothing=0.1"],
    ],
    ids=" ".join,
)
def test_a_saved_learner_goes_on_bit_for_bit(changes: list[str], tiny: Tiny, world: World) -> None:
    config = tiny(*changes)
    straight = Learner(config, 3, world)
    train(straight, range(3))
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    resumed = Learner(config, 3, world)
    train(resumed, range(7, 8))  # state of its own, which must go
    resumed.load_state_dict(torch.load(file, weights_only=True), "there")
    torch.rand(5)  # a process that starts anew is elsewhere in torch's random numbers
    assert train(resumed, range(3, 6)) == train(straight, range(3, 6))
    assert not different(resumed.model.state_dict(), straight.model.state_dict())
    assert not different(resumed.result.state_dict(), straight.result.state_dict())
    assert resumed.updates == straight.updates


def test_an_overflow_in_half_precision_changes_no_weight(tiny: Tiny, world: World) -> None:
    learner = Learner(tiny("precision=fp16", "ema=0.9"), 3, world)
    train(learner, range(2))
    before = [cloned(dict(learner.model.named_parameters())), cloned(dict(learner.result.named_parameters()))]
    poisoned = batch()._replace(x=batch().x * torch.inf)
    learner.step([poisoned], learner.config.attack, 0.05, seed=0)
    assert learner.scaler.skipped == 1
    assert not different(dict(learner.model.named_parameters()), before[0])


def test_free_updates_once_a_replay(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("attack={name: free, replays: 3}", PLAIN)
    learner = Learner(config, 3, world)
    seen: list[dict[str, Tensor]] = []
    update = learner.scaler.step

    def noted(optimizer: torch.optim.Optimizer) -> bool:
        stepped = update(optimizer)
        seen.append(cloned(learner.model.state_dict()))
        return stepped

    monkeypatch.setattr(learner.scaler, "step", noted)
    loss = train(learner, range(1))[0]
    assert learner.updates == len(seen) == 3
    assert different(seen[0], seen[1])
    assert different(seen[1], seen[2])
    other = Learner(config, 3, world)
    x, y, _ = batch()
    start = (x + config.threat.ball.start(x, torch.Generator().manual_seed(0))).clamp(0, 1)
    first = F.cross_entropy(other.model(start), y).item()
    assert 0 < abs(loss - first) < first, "the mean of three losses, of which this is the first"


def test_the_learning_rate_is_the_one_given(tiny: Tiny, world: World) -> None:
    learner = Learner(tiny(PLAIN), 3, world)
    before = cloned(learner.model.state_dict())
    train(learner, range(1), lr=0.0)
    assert not different(learner.model.state_dict(), before)


def test_a_step_is_a_function_of_its_seed(tiny: Tiny, world: World) -> None:
    found = []
    for seed in (5, 5, 6):
        learner = Learner(tiny(PLAIN), 3, world)
        learner.step([batch()], learner.config.attack, 0.05, seed)
        found.append(learner.model.state_dict())
    assert not different(found[0], found[1])
    assert different(found[0], found[2])


def test_weights_that_are_no_numbers_are_found(tiny: Tiny, world: World) -> None:
    learner = Learner(tiny(), 3, world)
    assert learner.finite()
    with torch.no_grad():
        next(iter(learner.model.buffers()))[0] = torch.nan
    assert not learner.finite()


def test_another_models_state_is_refused(tiny: Tiny, world: World) -> None:
    state = Learner(tiny("model.options.width=3"), 3, world).state_dict()
    with pytest.raises(UserError, match="there holds the weights of another model: net"):
        Learner(tiny(), 3, world).load_state_dict(state, "there")


@pytest.mark.parametrize(
    "attack",
    ["{name: pgd, steps: 2}", "{name: free, replays: 3}", "{name: trades, steps: 2}", "{name: gradalign}"],
)
def test_casts_that_passes_share_change_no_step(
    attack: str, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where weights change between two losses of a batch, or a pass that asks for no gradients comes first."""
    config = tiny("precision=bf16", f"attack={attack}")
    shared, own = Learner(config, 3, world), Learner(config, 3, world)
    monkeypatch.setattr(own.network, "casting_once", nullcontext)
    before = cloned(dict(shared.model.named_parameters()))
    assert train(shared, range(1)) == train(own, range(1))
    after = dict(shared.model.named_parameters())
    assert len(different(before, after)) == len(before), "a weight got no gradient"
    for name, weight in own.model.named_parameters():
        moved, expected = after[name] - before[name], weight - before[name]
        # The gradients of two passes are added up in bfloat16, whose numbers are 2^-8 apart.
        torch.testing.assert_close(moved, expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


@pytest.mark.parametrize("compression", ["none", "fp16"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_and_momentum_lie_in_memory_as_their_weights_do(
    precision: str, compression: str, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs torch's fused kernels do not look, and would mix them up."""
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")  # a rank alone sends, too: another might join
    config = tiny(f"precision={precision}", f"allreduce.compression={compression}")
    learner = Learner(config, 3, world)
    train(learner, range(2))
    for weight in learner.model.parameters():
        momentum = learner.optimizer.state[weight]["momentum_buffer"]
        assert weight.grad is not None
        assert weight.stride() == weight.grad.stride() == momentum.stride()


@pytest.mark.slow
def test_a_compiled_network_has_the_same_losses(tiny: Tiny, world: World) -> None:
    losses = [train(Learner(tiny(PLAIN, f"compile={on}"), 3, world), range(4)) for on in ("false", "true")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0] != losses[0][::-1], "they change from step to step"


def test_on_a_cpu_no_gpu_is_spoken_to(tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps each such call, with its stack, until a GPU comes."""
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", calls.append)
    train(Learner(tiny(PLAIN), 3, world), range(2))
    assert calls == ([] if world.device.type == "cpu" else [0, 1])


@pytest.mark.parametrize(
    "changes",
    [["precision=fp16"], ["allreduce.compression=fp16"], ["precision=fp16", "accumulate=2"], ["allreduce.op=adasum"]],
    ids=" ".join,
)
def test_the_first_step_is_as_long_in_every_mode(changes: list[str], tiny: Tiny, world: World) -> None:
    moved = []
    for settings in ([], changes):
        config = tiny(PLAIN, "attack.name=standard", *settings)
        learner = Learner(config, 3, world)
        before = cloned(dict(learner.model.named_parameters()))
        learner.step([batch()] * config.accumulate, config.attack, 0.05, 0)
        moved.append({name: weight.detach() - before[name] for name, weight in learner.model.named_parameters()})
    for name, expected in moved[0].items():
        torch.testing.assert_close(moved[1][name], expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


@pytest.mark.parametrize(("log_every", "measured"), [(1, 12), (10, 12), (40, 3), (60, 2)])
def test_the_noise_scale_is_measured_ten_times_between_two_entries_of_the_log(
    log_every: int, measured: int, tiny: Tiny, world: World
) -> None:
    config = tiny(PLAIN, "accumulate=2", f"log_every={log_every}")
    learner = Learner(config, 3, world)
    for step in range(12):
        learner.step([batch(step, 4), batch(step + 100, 4)], config.attack, 0.05, step)
    assert learner.noise.take()[2] == measured
