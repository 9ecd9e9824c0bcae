"""The groups of settings that belong to the run itself, and not to one of its components."""

from typing import Annotated

from pydantic import (
    Field,
    NonNegativeFloat,
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

AnyAttack = Annotated[SerializeAsAny[Attack], chosen_from("hpcfast.attacks")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
DURATIONS = ("epochs", "steps", "images")


class Phase(Settings):
    """A stretch of training with its own image size and batch (progressive resizing, Wong et al. 2020).

    It lasts for so many ``epochs``, ``steps`` or ``images``. ``lr`` replaces ``optim.lr`` while it lasts.
    """

    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    images: PositiveInt | None = None
    size: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat | None = None

    @model_validator(mode="after")
    def _has_one_duration(self) -> "Phase":
        given = [key for key in DURATIONS if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"give a duration in one of epochs, steps, images, not {' and '.join(given) or 'none'}")
        return self


class Check(Settings):
    """One measurement of accuracy: which attack, on how many validation images (null: all).

    ``curve``: more radii at which robust accuracy is measured, besides the threat model's.
    """

    attack: AnyAttack
    images: PositiveInt | None = None
    curve: tuple[Pixels, ...] = ()


CONFIRM = Check(attack=Pgd(name="pgd", steps=50, restarts=10)), Check(attack=Apgd(name="apgd"))


class EvaluationSettings(Settings):
    """``monitor`` runs every ``every`` epochs (0: never), ``final`` at the end.

    A batch is a rank's, of ``batch_size`` images or as many as memory has room for (docs/evaluation.md).
    Each check of ``confirm`` must find the target too, off the clock, or the run counts as not converged.
    """

    every: NonNegativeInt = 1
    monitor: Check
    final: Check
    confirm: tuple[Check, ...] = CONFIRM
    batch_size: PositiveInt = 250


LADDER = (Pgd(name="pgd", steps=2), Pgd(name="pgd", steps=7))


class GuardSettings(Settings):
    """The watch for catastrophic overfitting, every ``every`` epochs (0: never) on ``images`` training images.

    Training has collapsed where accuracy under a strong attack (``attack``) is lower by more than ``limit`` than
    under the attack it trains with. It then goes back to the last healthy checkpoint and on with the next attack
    of ``ladder`` (null: two steps of PGD, then seven).
    """

    every: NonNegativeInt = 1
    images: PositiveInt = 256
    attack: AnyAttack = Apgd(name="apgd", steps=20, targets=3)
    limit: Fraction = 0.18
    ladder: tuple[AnyAttack, ...] | None = None

    def attacks(self, first: Attack) -> tuple[Attack, ...]:
        """The training attack ``first``, and what follows it after each collapse."""
        rungs = tuple(rung for rung in LADDER if rung != first) if self.ladder is None else self.ladder
        return (first, *rungs)


class CheckpointSettings(Settings):
    """The ``keep`` newest checkpoints stay. Besides one an epoch there is one every ``minutes``.

    ``asynchronous``: training goes on while a copy of its state is written.
    """

    keep: PositiveInt = 2
    minutes: NonNegativeFloat = 15.0
    asynchronous: bool = False
