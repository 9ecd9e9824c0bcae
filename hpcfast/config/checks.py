"""Settings that are sound one by one but not together: each check returns what is wrong and the cure."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcfast.config.groups import Check, GuardSettings
    from hpcfast.config.settings import RunConfig

DURATIONS = ("epochs", "steps", "images")


def problems(config: "RunConfig") -> Iterator[str]:
    """All impossible combinations in ``config``, as ``key: problem; cure``."""
    yield from _duration(config)
    yield from _guard(config)
    for key in ("mean", "std"):
        if (given := len(getattr(config.model, key))) != config.data.channels:
            yield f"model.{key}: has {given} numbers for data.channels={config.data.channels}; give one each"
    if config.data.resident is True and not config.data.can_be_resident:
        yield (
            "data.resident: with data.augment=resized_crop_flip a step sees a part of an image of its own resolution, "
            "so that bytes of data.size pixels are not enough; set it to auto or false"
        )
    if config.data.colour_jitter and config.data.channels == 1:
        yield "data.colour_jitter: grey images (data.channels=1) have no colours; set it to 0"
    measuring: dict[str, Check | GuardSettings] = {
        "evaluation.monitor": config.evaluation.monitor,
        "evaluation.final": config.evaluation.final,
        **{f"evaluation.confirm.{i}": check for i, check in enumerate(config.evaluation.confirm)},
        "guard": config.guard,
    }
    for key, settings in measuring.items():
        if not settings.attack.in_ball:
            yield f"{key}.attack: {settings.attack.name} leaves the ball; measure with pgd or apgd"
    if config.allreduce.op == "adasum" and config.precision in ("fp16", "auto"):
        yield (
            f"allreduce.op: adasum cannot be combined with loss scaling (precision={config.precision}); "
            f"set precision to bf16 or fp32, or allreduce.op to average"
        )
    names = [tracker.name for tracker in config.trackers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"trackers: {', '.join(twice)} is there more than once; list each once"
    yield from _target(config)
    yield from _lengths(config, measuring)


def _lengths(config: "RunConfig", measuring: "dict[str, Check | GuardSettings]") -> Iterator[str]:
    """Radii and steps that reach across all pixels: those of somebody who thinks of pixels in 0-255."""
    norm, attacks = config.threat.norm, {"attack": config.attack}
    lengths = {"threat.eps": (norm, config.threat.eps)}
    for key, settings in measuring.items():
        attacks[f"{key}.attack"] = settings.attack
        lengths |= {f"{key}.curve.{i}": (norm, eps) for i, eps in enumerate(getattr(settings, "curve", ()))}
    attacks |= {f"guard.ladder.{i}": attack for i, attack in enumerate(config.guard.ladder or ())}
    for key, attack in attacks.items():
        if (alpha := getattr(attack, "alpha", None)) is not None:
            lengths[f"{key}.alpha"] = norm, alpha
        for i, threat in enumerate(getattr(attack, "threats", ())):
            lengths[f"{key}.threats.{i}.eps"] = threat.norm, threat.eps
    channels, size = config.data.channels, min([config.data.size, *(phase.size for phase in config.phases)])
    values = channels * size * size
    limits = {"Linf": 1.0, "L2": math.sqrt(values), "L1": float(values)}
    for key, (norm, length) in lengths.items():
        if length >= limits[norm]:
            likely = length if length / 255 < limits[norm] else 8
            yield (
                f"{key}: {length:g} allows every change there is, as pixels are in [0,1]: in {norm} it must be below "
                f"{limits[norm]:g} for images of {channels} x {size} x {size}; write e.g. {likely:g}/255"
            )


def _target(config: "RunConfig") -> Iterator[str]:
    margin = config.target_margin
    if config.target is None:
        if margin:
            yield f"target_margin: {margin:g} is added to the target, and there is none; set target, or leave it out"
        return
    if not config.evaluation.every:
        yield "target: is looked for at monitoring evaluations; set evaluation.every to 1 or more"
    if not config.evaluation.confirm:
        yield "evaluation.confirm: only what it confirms counts as reached; list an attack, e.g. apgd, or leave it out"
    if (config.goal or 0) >= 1:
        yield f"target_margin: {config.target:g} + {margin:g} is no accuracy below 1; lower it or the target"


def _duration(config: "RunConfig") -> Iterator[str]:
    given = [key for key in DURATIONS if getattr(config, key) is not None]
    if not config.phases and len(given) != 1:
        said = " and ".join(given) or "none"
        yield f"epochs: give the run's duration in one of epochs, steps, images (got {said})"
        return
    if any(phase.share for phase in config.phases):
        wrong = [*_shares(config, given)]
        yield from wrong
        if wrong:
            return
    elif config.phases and given and given != ["epochs"]:
        yield f"{given[0]}: the phases say how long the run is; leave it out"
    epochs = [phase.epochs for phase in config.all_phases]
    if all(epochs):
        total = sum(phase.epochs or 0 for phase in config.all_phases)
        if config.epochs and abs(config.epochs - total) > 1e-6:
            yield f"phases: their epochs sum to {total:g}, but epochs is {config.epochs}; make them equal"
        else:
            yield from (f"schedule.{problem}" for problem in config.schedule.problems(total))
    elif config.epochs and config.phases:
        yield "epochs: not all phases are given in epochs; leave it out"


def _shares(config: "RunConfig", given: list[str]) -> Iterator[str]:
    """Of phases that are shares of the run."""
    shares = [float(phase.share[:-1]) for phase in config.phases if phase.share]
    if len(shares) < len(config.phases):
        yield "phases: some are shares of the run and some are not; give all a share"
    elif abs(sum(shares) - 100) > 1e-6:
        yield f"phases: their shares sum to {sum(shares):g}%; make it 100%"
    if len(given) != 1:
        yield (
            f"epochs: the phases are shares of the run; give its length in one of epochs, steps, images "
            f"(got {' and '.join(given) or 'none'})"
        )
    elif not all(getattr(phase, given[0]) or phase.share for phase in config.all_phases):
        yield f"phases: {getattr(config, given[0])} {given[0]} are too few for these shares; one phase would have none"


def _guard(config: "RunConfig") -> Iterator[str]:
    tried = [config.attack]
    for number, attack in enumerate(config.guard.attacks(config.attack)[1:] if config.guard.every else ()):
        if attack in tried:
            yield (
                f"guard.ladder.{number}: {attack.name} with these settings was tried before, so that training would "
                f"collapse and go back for ever; each rung must be another attack"
            )
        elif not attack.guarded:
            yield f"guard.ladder.{number}: {attack.name} does not train robust models; use e.g. nfgsm or pgd"
        tried.append(attack)
    for attack in tried:
        if config.class_weights != "none" and getattr(attack, "attack", attack).name == "trades":
            yield (
                f"class_weights: {config.class_weights} cannot be combined with attack trades, whose divergence knows "
                f"no classes and would stay unweighted; set it to none, or train with e.g. nfgsm or pgd"
            )
        if attack.updates > 1 and config.accumulate > 1:
            yield (
                f"accumulate: {config.accumulate} cannot be combined with attack {attack.name}, which makes "
                f"{attack.updates} steps of each batch; set accumulate to 1"
            )
