"""The groups of settings that belong to no other room."""

from itertools import accumulate, pairwise
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from hpcfast.attacks import Attack
from hpcfast.attacks.apgd import Apgd
from hpcfast.attacks.norms import Pixels
from hpcfast.attacks.pgd import Pgd
from hpcfast.component import Settings, chosen_from
from hpcfast.config.checks import DURATIONS
from hpcfast.optim.position import Position

AnyAttack = Annotated[SerializeAsAny[Attack], chosen_from("hpcfast.attacks")]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _percent(value: str) -> str:
    if not value.endswith("%") or value == "0%":
        raise ValueError(f"'{value}' is no share of the run; write e.g. 40%")
    return value


class Phase(Settings):
    """A stretch of training with its own image size and batch (progressive resizing, Wong et al. 2020)."""

    epochs: PositiveFloat | None = None
    """The phase's length, in one of ``epochs``, ``steps``, ``images`` and ``share``."""
    steps: PositiveInt | None = None
    """The phase's length in optimizer steps."""
    images: PositiveInt | None = None
    """The phase's length in images."""
    share: Annotated[Position, AfterValidator(_percent)] | None = None
    """The phase's length as a share of the run's, such as ``40%``; then all phases have one."""
    size: PositiveInt
    """Image side in pixels."""
    batch_size: PositiveInt
    """Images in a batch of one rank."""
    lr: PositiveFloat | None = None
    """Replaces ``optim.lr`` in this phase."""

    @model_validator(mode="after")
    def _has_one_duration(self) -> "Phase":
        given = [key for key in (*DURATIONS, "share") if getattr(self, key)]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"give a duration in one of epochs, steps, images, share, not {said}")
        return self


def shared_out(phases: tuple[Phase, ...], duration: dict[str, int]) -> tuple[Phase, ...]:
    """``phases`` of a run of so many epochs, steps or images, of which their shares are taken.

    Steps and images are whole, and add up to the run's.
    """
    if len(duration) != 1 or not all(phase.share for phase in phases):
        return phases
    ((key, length),) = duration.items()
    shares = accumulate((float((phase.share or "")[:-1]) for phase in phases), initial=0.0)
    ends = [round(share / 100 * length, 9 if key == "epochs" else None) for share in shares]
    lengths = [round(end - start, 9) for start, end in pairwise(ends)]
    return tuple(phase.model_copy(update={key: own, "share": None}) for phase, own in zip(phases, lengths, strict=True))


class Check(Settings):
    """One measurement of robust accuracy."""

    attack: AnyAttack
    """The attack to measure with."""
    images: PositiveInt | None = None
    """On so many images, spread evenly over the classes. ``null``: all."""
    curve: tuple[Pixels, ...] = ()
    """More radii, besides the threat model's."""


CONFIRM = Check(attack=Pgd(name="pgd", steps=50, restarts=10)), Check(attack=Apgd(name="apgd"))


class EvaluationSettings(Settings):
    """When robust accuracy is measured, and with what."""

    every: NonNegativeInt = 1
    """Epochs between two measurements of ``monitor``; 0: never."""
    monitor: Check
    """During training, on images held out of training."""
    final: Check
    """At the end, on validation images."""
    confirm: tuple[Check, ...] = CONFIRM
    """Each must find ``target`` too, off the clock, or the run counts as not converged."""
    batch_size: PositiveInt = 250
    """Images in a batch of one rank, at most: fewer where memory is short."""


LADDER = (Pgd(name="pgd", steps=2), Pgd(name="pgd", steps=7))


class GuardSettings(Settings):
    """The watch for catastrophic overfitting, on images held out of training.

    After a collapse, training goes back to the last healthy checkpoint and continues with the next attack of
    ``ladder``.
    """

    every: NonNegativeInt = 1
    """Epochs between two looks; 0: never."""
    images: PositiveInt = 256
    """It looks at so many."""
    attack: AnyAttack = Apgd(name="apgd", steps=20, targets=3)
    """The strong attack that is compared with the training attack."""
    limit: Fraction = 0.18
    """Training has collapsed if accuracy under ``attack`` is lower by more than this than under the training attack."""
    ladder: tuple[AnyAttack, ...] | None = None
    """The attacks to continue with. ``null``: two steps of PGD, then seven."""

    def attacks(self, first: Attack) -> tuple[Attack, ...]:
        """The training attack ``first``, and what follows it after each collapse."""
        rungs = tuple(rung for rung in LADDER if rung != first) if self.ladder is None else self.ladder
        return (first, *rungs)


def _minutes(value: object) -> object:
    if value != "auto" and not (isinstance(value, int | float) and value >= 0):
        raise ValueError("must be greater than or equal to 0, or auto")
    return value


class CheckpointSettings(Settings):
    """Checkpoints: one at each epoch's end, and one every ``minutes``."""

    keep: PositiveInt = 2
    """The newest so many stay."""
    minutes: Annotated[float | Literal["auto"], BeforeValidator(_minutes)] = 15.0
    """0 or more; 0: only at an epoch's end. ``auto``: as often as loses least time, by how long a checkpoint takes and
    how often the run fails (Daly 2006)."""
    asynchronous: bool = False
    """Training continues while a copy of its state is written."""
