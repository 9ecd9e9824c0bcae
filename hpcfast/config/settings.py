"""The settings of a run, and the groups of them that belong to no other room."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
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
from hpcfast.attacks.norms import Pixels, Threat
from hpcfast.attacks.pgd import Pgd
from hpcfast.component import Invalid, Settings, chosen_from
from hpcfast.config.checks import DURATIONS, problems
from hpcfast.data import DataSettings
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.models import ModelSettings
from hpcfast.optim import OptimSettings
from hpcfast.optim.schedules import Schedule

AnyAttack = Annotated[SerializeAsAny[Attack], chosen_from("hpcfast.attacks")]
AnySchedule = Annotated[SerializeAsAny[Schedule], chosen_from("hpcfast.optim.schedules")]
Fraction = Annotated[float, Field(gt=0, lt=1)]


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


def _minutes(value: object) -> object:
    if value != "auto" and not (isinstance(value, int | float) and value >= 0):
        raise ValueError("must be greater than or equal to 0, or auto")
    return value


class CheckpointSettings(Settings):
    """The ``keep`` newest checkpoints stay. Besides one an epoch there is one every ``minutes``.

    ``auto``: as often as loses least time, by how long one takes and how often the run fails (Daly 2006).
    ``asynchronous``: training goes on while a copy of its state is written.
    """

    keep: PositiveInt = 2
    minutes: Annotated[float | Literal["auto"], BeforeValidator(_minutes)] = 15.0
    asynchronous: bool = False


def _file_name(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError("a run's name becomes a folder's: use letters, digits, '-', '_' and '.', no '/'")
    return name


class RunConfig(Settings):
    """Everything that decides what a run computes."""

    name: Annotated[str, AfterValidator(_file_name)]
    runs: Path = Path("runs")
    seed: NonNegativeInt = 0
    threat: Threat
    data: DataSettings
    model: ModelSettings
    attack: AnyAttack
    guard: GuardSettings = GuardSettings()
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    images: PositiveInt | None = None
    phases: Annotated[tuple[Phase, ...], Field(description="empty: one phase of data.size")] = ()
    optim: OptimSettings
    schedule: AnySchedule
    accumulate: Annotated[PositiveInt, Field(description="batches a rank adds up before a step")] = 1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[Fraction | None, Field(description="decay a step of the averaged weights; null: none")] = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    allreduce: AllreduceSettings = AllreduceSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluation: EvaluationSettings
    target: Annotated[Fraction | None, Field(description="robust accuracy at which training ends")] = None
    target_margin: Annotated[float, Field(ge=0, lt=1, description="by how much the monitor must exceed it")] = 0.0
    log_every: PositiveInt = 50

    @model_validator(mode="after")
    def _fit_together(self) -> "RunConfig":
        if wrong := list(problems(self)):
            raise Invalid(wrong)
        return self

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """The phases, or the one that a run without them is."""
        if self.phases:
            return self.phases
        duration = {key: getattr(self, key) for key in DURATIONS}
        return (Phase(**duration, size=self.data.size, batch_size=self.data.batch_size),)

    @property
    def goal(self) -> float | None:
        """The robust accuracy that the monitor must read for training to end; rounded, as 0.1 + 0.2 is above 0.3."""
        return None if self.target is None else round(self.target + self.target_margin, 9)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.runs / self.name

    def dump(self) -> str:
        """YAML that :func:`load` reads back as the same configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
