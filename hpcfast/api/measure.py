"""``hpcfast.evaluate``: what ``hpcfast eval`` measures, of any model and any images."""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hpcfast import foreign
from hpcfast.api import checks, ranks
from hpcfast.api.attacks import EPS, Norm
from hpcfast.api.data import Batches, Loader, in_memory
from hpcfast.api.runs import RobustModel
from hpcfast.attacks.norms import Threat
from hpcfast.component import validate
from hpcfast.config import Check, RunConfig
from hpcfast.config.groups import EvaluationSettings
from hpcfast.data import DataSettings
from hpcfast.data.split import Split, match
from hpcfast.distributed import comm
from hpcfast.errors import UserError
from hpcfast.evaluation import attacked, chosen_images, masking, rounds
from hpcfast.evaluation.outcomes import NEVER, Outcomes, summarise
from hpcfast.runs.progress import Reporter


class Outcome(NamedTuple):
    """What became of one image; classes are numbers."""

    image: int
    """Its place in the data."""
    label: int
    clean: int
    """What the model takes it for as it is."""
    attacked: int
    """What the model takes it for in the end."""
    fooled_by: str | None
    """The attack that fooled the model first; None where none did, or none was needed."""
    eps: float | None
    """In which radius, pixels in [0,1]."""

    @property
    def robust(self) -> bool:
        """Whether it is classified rightly as it is and under all attacks."""
        return self.label == self.clean == self.attacked


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` has measured. Accuracies are fractions."""

    clean_accuracy: float
    robust_accuracy: float
    """In the ball of the threat model."""
    n_eval: int
    """Images."""
    ci95: dict[str, list[float]]
    """Wilson's 95 % interval of each accuracy."""
    outcomes: list[Outcome]
    """By image."""
    warnings: list[str]
    """Signs that the model hides its gradients, so that its robust accuracy may be far too high."""
    details: dict[str, Any]
    """All numbers, as ``hpcfast eval --json`` writes them (docs/evaluation.md)."""

    def __str__(self) -> str:
        lines = []
        for key in ("clean_accuracy", "robust_accuracy"):
            low, high = self.ci95[key]
            lines.append(
                f"{key:16} {getattr(self, key):.4f}   95 % interval {low:.4f} to {high:.4f}, n = {self.n_eval}"
            )
        return "\n".join([*lines, *(f"warning: masked gradients? {sign}" for sign in self.warnings)])


def evaluate(
    model: nn.Module, data: Loader | tuple[Tensor, Tensor] | Batches, *, norm: Norm = "Linf", eps: float = EPS,
    attack: str = "apgd", images: int | None = None, curve: Sequence[float] = (), batch_size: int = 250, seed: int = 0,
    classes: Sequence[str] | None = None, masked_gradients: bool = True, progress: bool = True, **settings: Any,
) -> Evaluation:  # fmt: skip
    """Measure clean and robust accuracy of ``model``, as ``hpcfast eval`` does; a collective of all ranks.

    In a job of several ranks each gives the same model and all the data, does its part, and gets the whole result.
    ``model`` stays as it is: a copy in eval mode is attacked, on the rank's GPU where there is one.

    Args:
        model: maps images, pixels in [0,1], to logits (n, classes); in eval mode.
        data: images and their classes: ``(x, y)``, x (n, channels, size, size), float, pixels in [0,1], y (n,), int64;
            or an iterable of such batches, which are all kept in memory; or :func:`hpcfast.loader`, which is not.
        norm: of the threat model: "Linf", "L2" or "L1".
        eps: its radius, pixels in [0,1].
        attack: "apgd", "autoattack", "pgd", "square", "fgsm_rs" or "standard" (none).
        images: evenly spread, instead of all.
        curve: more radii at which robust accuracy is measured.
        batch_size: images of a batch, or fewer where memory has no room.
        seed: of the attacks' random numbers.
        classes: names of the model's classes, in the order of its logits; by default its own ``classes``, as
            :func:`hpcfast.load` sets them. Folders of :func:`hpcfast.loader` are matched with them by name.
        masked_gradients: also look for signs of them, with four attacks on 128 images.
        progress: show it on rank 0.
        settings: the attack's own, e.g. ``steps=50, restarts=10`` of "pgd".

    Raises:
        UserError: a setting, the images, classes or logits are wrong, or the model is in train mode.
    """
    checks.mode(model)
    world = ranks.world()
    values = {"attack": {"name": attack, **settings}, "images": images, "curve": curve}

    known = model.classes if isinstance(model, RobustModel) else ()

    def prepared() -> tuple[Split, RunConfig, list[str]]:
        check = validate(Check, values)
        if not check.attack.in_ball:
            raise UserError(f"attack: {attack} leaves the ball; measure with apgd, autoattack or pgd")
        split, data_settings, said = _images(model, data, tuple(classes or known))
        threat = validate(Threat, {"norm": norm, "eps": eps})
        return split, _config(threat, data_settings, check, batch_size, seed), said

    with foreign.trusting():  # it is the caller who names the attack
        split, config, said = comm.raise_on_all_ranks(prepared)
    check = config.evaluation.final
    ids = chosen_images(split, check, world)
    planned = rounds(config, check, len(split.classes))
    if any(weights.device != world.device for weights in model.parameters()):
        model = copy.deepcopy(model).to(world.device)
    with ExitStack() as held:
        reporter = held.enter_context(Reporter(world.is_root and progress))

        def task(name: str, work: int) -> Callable[[int], None]:
            shown = reporter.task(name, work, "attacks")
            held.callback(shown.close)
            return shown.update

        for sentence in said:
            reporter.say(sentence)
        shown = task("evaluation", len(ids) * len(planned))
        outcomes = attacked(model, split, ids, planned, config, world, shown, say=reporter.say)
        found = summarise(outcomes, config, check) | {"masking": {"signs": []}}
        if masked_gradients:
            few = masking.some(outcomes.good, world)
            shown = task("look for masked gradients", masking.ATTACKS * len(few))
            found["masking"] = masking.look(model, split, few, config, world, shown)
    chosen = {key: found[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95")}
    return Evaluation(**chosen, outcomes=_listed(outcomes), warnings=found["masking"]["signs"], details=found)


def _images(
    model: nn.Module, data: Loader | tuple[Tensor, Tensor] | Batches, names: tuple[str, ...]
) -> tuple[Split, DataSettings, list[str]]:
    """``data`` as a split whose classes are the model's, which are called by ``names``; and what is to be said.

    Raises:
        UserError: the images or the logits are none, or nobody knows which logit is which class.
    """
    pairs = data if isinstance(data, Loader) else [data] if isinstance(data, tuple) else list(data)
    if not isinstance(pairs, Loader) and not pairs:
        raise UserError("data: no images; give batches (x, y)")
    x = pairs.first(2) if isinstance(pairs, Loader) else pairs[0][0][:2]
    checks.images(x)
    place = next((weights.device for weights in model.parameters()), x.device)
    with torch.no_grad():
        outputs = checks.logits(model(x.to(place)), x).shape[1]
    if names and len(names) != outputs:
        raise UserError(f"classes: {len(names)} names for a model with {outputs} logits; give {outputs}")
    if not isinstance(pairs, Loader):
        split = in_memory(pairs, names or tuple(map(str, range(outputs))))
        _, channels, size, _ = split.images.shape
        values = {"path": "tensors", "size": size, "channels": channels, "batch_size": 1}
        return split, validate(DataSettings, values), []
    if names:
        matched, said = match(pairs.split, names, "the model")
        return matched, pairs.settings, said
    if len(pairs.classes) != outputs:
        raise UserError(
            f"data: {len(pairs.classes)} classes for a model with {outputs} logits, and nobody says which is which; "
            f"give classes=[…], the names of the folders in the order of the logits"
        )
    return pairs.split, pairs.settings, []


def _config(threat: Threat, data: DataSettings, check: Check, batch_size: int, seed: int) -> RunConfig:
    """A configuration that holds what an evaluation reads, and nothing else."""
    values = {"every": 0, "monitor": check, "final": check, "batch_size": batch_size}
    evaluation = validate(EvaluationSettings, values)
    return RunConfig.model_construct(threat=threat, data=data, evaluation=evaluation, seed=seed)


def _listed(outcomes: Outcomes) -> list[Outcome]:
    labels, fate = outcomes.split.labels, []
    for i in outcomes.good.tolist():
        number = int(outcomes.fooled[i])
        by = (
            (None, None) if number == NEVER else (outcomes.rounds[number].name, float(outcomes.rounds[number].ball.eps))
        )
        fate.append(Outcome(i, int(labels[i]), int(outcomes.clean[i]), int(outcomes.predicted[i]), *by))
    return fate
