"""Settings that are sound one by one but not together: one line each, with the value, what is legal, the cure."""

from collections.abc import Callable

import pytest

from hpcfast.config import RunConfig
from hpcfast.errors import UserError

Tiny = Callable[..., RunConfig]
PHASES = "phases=[{steps: 2, size: 8, batch_size: 4}, {epochs: 1, size: 8, batch_size: 4}]"
IMPOSSIBLE = {  # overrides, each sound alone; the line's key; its value, what is legal, the cure
    "a tracker twice": (
        ["trackers=[wandb, {name: wandb, project: x}]"],
        "trackers",
        ["wandb is there", "list each once"],
    ),
    "a tracker that is no list": (["trackers=wandb"], "trackers", ["must be a list, e.g. [tensorboard]", "'wandb'"]),
    "no such tracker": (
        ["trackers=[wandbe]"],
        "trackers.0.name",
        ["mlflow, tensorboard, wandb", "did you mean 'wandb'"],
    ),
    "two durations": (["steps=7"], "epochs", ["one of epochs, steps, images", "epochs and steps"]),
    "three durations": (["steps=7", "images=9"], "epochs", ["one of epochs, steps, images", "and steps and images"]),
    "no duration": (["epochs=null"], "epochs", ["one of epochs, steps, images", "got none"]),
    "steps beside phases": (
        ["epochs=null", "steps=7", "phases=[{epochs: 3, size: 8, batch_size: 4}]"],
        "steps",
        ["the phases say how long", "leave it out"],
    ),
    "images and epochs beside phases": (
        ["images=7", "phases=[{epochs: 3, size: 8, batch_size: 4}]"],
        "epochs",
        ["the phases say how long", "leave it out"],
    ),
    "another sum": (
        ["phases=[{epochs: 2, size: 8, batch_size: 4}]"],
        "phases",
        ["sum to 2", "epochs is 3", "make them equal"],
    ),
    "shares that are no whole": (
        ["phases=[{share: 40%, size: 8, batch_size: 4}, {share: 1/2, size: 8, batch_size: 4}]"],
        "phases",
        ["sum to 90%", "100%"],
    ),
    "shares of no length": (["epochs=null", "phases=[{share: 100%, size: 8, batch_size: 4}]"], "epochs", ["got none"]),
    "more phases than steps": (
        [
            "epochs=null",
            "steps=1",
            "phases=[{share: 50%, size: 8, batch_size: 4}, {share: 50%, size: 8, batch_size: 4}]",
        ],
        "phases",
        ["1 steps are too few"],
    ),
    "a share beside epochs": (
        ["phases=[{share: 50%, size: 8, batch_size: 4}, {epochs: 2, size: 8, batch_size: 4}]"],
        "phases",
        ["some are shares", "give all a share"],
    ),
    "knots that change places": (
        ["schedule={name: piecewise, knots: [[2 epochs, 1], [50%, 0]]}"],
        "schedule.knots",
        ["50% is no later than 2 epochs", "3 epochs", "as shares"],
    ),
    "epochs beside phases in steps": ([PHASES], "epochs", ["not all phases are given in epochs", "leave it out"]),
    "warm-up of the whole run": (
        ["schedule.warmup=3 epochs"],
        "schedule.warmup",
        ["3 epochs", "less than the run's 3"],
    ),
    "warm-up longer than the phases": (
        ["epochs=null", "schedule.warmup=5 epochs", "phases=[{epochs: 4, size: 8, batch_size: 4}]"],
        "schedule.warmup",
        ["5 epochs", "less than the run's 4"],
    ),
    "channels of the mean": (["model.mean=[0, 0]"], "model.mean", ["2 numbers", "data.channels=1", "one each"]),
    "channels of the deviation": (["model.std=[1, 1, 1]"], "model.std", ["3 numbers", "data.channels=1", "one each"]),
    "a ball of everything, Linf": (
        ["threat={norm: Linf, eps: 8}"],
        "threat.eps",
        ["8 allows every change", "below 1 for images of 1 x 10 x 10", "8/255"],
    ),
    "a ball of everything, whatever it is divided by": (
        ["threat={norm: Linf, eps: 300}"],
        "threat.eps",
        ["300 allows every change", "write e.g. 8/255"],
    ),
    "weights of classes for a loss without classes": (
        ["class_weights=balanced", "attack={name: trades}"],
        "class_weights",
        ["trades", "set it to none"],
    ),
    "the same for one of several threats": (
        [
            "class_weights=balanced",
            "attack={name: mixed, threats: [{norm: L2, eps: 1}, {norm: L2, eps: 2}], attack: {name: trades}}",
        ],
        "class_weights",
        ["trades", "set it to none"],
    ),
    "a ball of everything, L2": (["threat.eps=10"], "threat.eps", ["10 allows every change", "in L2", "below 10 for"]),
    "a ball of everything, L1": (["threat={norm: L1, eps: 100}"], "threat.eps", ["in L1", "below 100 for"]),
    "a ball of everything on a curve": (
        ["threat={norm: Linf, eps: 0.1}", "evaluation.final.curve=[0.5, 2]"],
        "evaluation.final.curve.1",
        ["2 allows every change", "below 1", "2/255"],
    ),
    "a ball of everything in a small phase": (
        ["threat.eps=9", "epochs=null", "phases=[{epochs: 3, size: 8, batch_size: 4}]"],
        "threat.eps",
        ["below 8 for images of 1 x 8 x 8"],
    ),
    "a ball of everything among several": (
        ["attack={name: mixed, threats: [{norm: L2, eps: 1}, {norm: Linf, eps: 4}], attack: {name: fgsm_rs}}"],
        "attack.threats.1.eps",
        ["4 allows every change", "4/255"],
    ),
    "a step across everything": (
        ["threat={norm: Linf, eps: 0.1}", "attack={name: pgd, alpha: 2}"],
        "attack.alpha",
        ["2 allows every change", "2/255"],
    ),
    "a step across everything in the guard": (
        ["guard.every=1", "threat={norm: Linf, eps: 0.1}", "guard.attack={name: pgd, alpha: 1}"],
        "guard.attack.alpha",
        ["1 allows every change", "1/255"],
    ),
    "monitor outside the ball": (
        ["evaluation.monitor.attack={name: nfgsm}"],
        "evaluation.monitor.attack",
        ["nfgsm leaves the ball", "pgd or apgd"],
    ),
    "final outside the ball": (
        ["evaluation.final.attack={name: nfgsm}"],
        "evaluation.final.attack",
        ["nfgsm leaves the ball", "pgd or apgd"],
    ),
    "guard outside the ball": (
        ["guard.every=1", "guard.attack={name: nfgsm}"],
        "guard.attack",
        ["nfgsm leaves the ball", "pgd or apgd"],
    ),
    "adasum in half precision": (
        ["allreduce.op=adasum", "precision=fp16"],
        "allreduce.op",
        ["adasum", "precision=fp16", "bf16 or fp32", "allreduce.op to average"],
    ),
    "adasum in a precision chosen later": (
        ["allreduce.op=adasum", "precision=auto"],
        "allreduce.op",
        ["adasum", "precision=auto", "bf16 or fp32", "allreduce.op to average"],
    ),
    "a target that nobody looks for": (
        ["target=0.5", "evaluation.every=0"],
        "target",
        ["monitoring evaluations", "evaluation.every to 1 or more"],
    ),
    "a confirmation outside the ball": (
        ["evaluation.confirm=[{attack: {name: pgd}}, {attack: {name: nfgsm}}]"],
        "evaluation.confirm.1.attack",
        ["nfgsm leaves the ball", "pgd or apgd"],
    ),
    "a target that nothing confirms": (
        ["target=0.5", "evaluation.confirm=[]"],
        "evaluation.confirm",
        ["only what it confirms counts", "list an attack"],
    ),
    "a margin of no target": (["target_margin=0.1"], "target_margin", ["0.1", "there is none", "set target"]),
    "a margin beyond every accuracy": (
        ["target=0.7", "target_margin=0.3"],
        "target_margin",
        ["0.7 + 0.3", "no accuracy below 1", "lower it or the target"],
    ),
    "a rung that is the attack itself": (
        ["guard={every: 1, ladder: [{name: pgd}, {name: fgsm_rs}]}"],
        "guard.ladder.1",
        ["fgsm_rs", "tried before", "another attack"],
    ),
    "a rung twice": (
        ["guard={every: 1, ladder: [{name: pgd}, {name: pgd, steps: 7}]}"],
        "guard.ladder.1",
        ["pgd", "tried before", "another attack"],
    ),
    "a rung that makes nothing robust": (
        ["guard={every: 1, ladder: [{name: standard}]}"],
        "guard.ladder.0",
        ["standard", "does not train robust models", "nfgsm or pgd"],
    ),
    "accumulation and replays": (
        ["accumulate=2", "attack={name: free, replays: 3}"],
        "accumulate",
        ["2", "attack free", "3 steps of each batch", "accumulate to 1"],
    ),
    "accumulation and a rung's replays": (
        ["accumulate=2", "guard={every: 1, ladder: [{name: free}]}"],
        "accumulate",
        ["2", "attack free", "4 steps of each batch", "accumulate to 1"],
    ),
}


@pytest.mark.parametrize(("overrides", "key", "parts"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_combination_is_one_line_with_its_cure(
    tiny: Tiny, overrides: list[str], key: str, parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        tiny(*overrides)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert [line.partition(":")[0] for line in lines] == [key], lines
    missing = [part for part in parts if part not in lines[0]]
    assert not missing, f"the message lacks {missing}: {lines[0]}"


POSSIBLE = {
    "trackers by name and with settings": ["trackers=[tensorboard, {name: wandb, client: trackio, project: x}]"],
    "phases in steps alone": ["epochs=null", PHASES],
    "adasum in bf16": ["allreduce.op=adasum", "precision=bf16"],
    "accumulation of one-step attacks": ["accumulate=2", "guard.every=1"],
    "replays without accumulation": ["attack={name: free}"],
    "a ladder of a guard that never looks": ["guard={every: 0, ladder: [{name: fgsm_rs}]}"],
    "training outside the ball": ["attack={name: nfgsm}"],
    "a free rung of a guard that never looks": ["accumulate=2", "guard={every: 0, ladder: [{name: free}]}"],
    "a warm-up in a run of steps": ["epochs=null", "steps=9", "schedule.warmup=5 epochs"],
    "a target": ["target=0.5"],
}


@pytest.mark.parametrize("overrides", POSSIBLE.values(), ids=POSSIBLE)
def test_its_neighbour_is_legal(tiny: Tiny, overrides: list[str]) -> None:
    config = tiny(*overrides)
    assert type(config).model_validate(config.model_dump(mode="json")) == config, "so does what the run keeps of it"
