"""The settings of a run."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from hpcfast.attacks.norms import Threat
from hpcfast.component import Invalid, Settings, chosen_from
from hpcfast.config.checks import DURATIONS, problems
from hpcfast.config.groups import (
    AnyAttack,
    CheckpointSettings,
    EvaluationSettings,
    Fraction,
    GuardSettings,
    Phase,
    shared_out,
)
from hpcfast.data import DataSettings
from hpcfast.distributed.settings import AllreduceSettings, EngineName
from hpcfast.models import ModelSettings
from hpcfast.optim import OptimSettings
from hpcfast.optim.schedules import Schedule
from hpcfast.runs.trackers import Tracker

AnySchedule = Annotated[SerializeAsAny[Schedule], chosen_from("hpcfast.optim.schedules")]


def _file_name(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError("a run's name becomes a folder's: use letters, digits, '-', '_' and '.', no '/'")
    return name


def _named(values: object) -> object:
    """Trackers may be given by their names alone."""
    if not isinstance(values, list | tuple):
        raise ValueError("must be a list, e.g. [tensorboard]")
    return [{"name": value} if isinstance(value, str) else value for value in values]


AnyTracker = Annotated[SerializeAsAny[Tracker], chosen_from("hpcfast.runs.trackers")]
Trackers = Annotated[tuple[AnyTracker, ...], BeforeValidator(_named)]


class RunConfig(Settings):
    """Everything that decides what a run computes, and the ``trackers`` that show it."""

    name: Annotated[str, AfterValidator(_file_name)]
    """The run directory is ``runs/NAME``."""
    runs: Path = Path("runs")
    """The folder of all run directories."""
    seed: NonNegativeInt = 0
    """Decides every random number of the run."""
    threat: Threat
    data: DataSettings
    model: ModelSettings
    attack: AnyAttack
    """What training trains against."""
    guard: GuardSettings = GuardSettings()
    epochs: PositiveInt | None = None
    """The run's length, in one of ``epochs``, ``steps`` and ``images``."""
    steps: PositiveInt | None = None
    """The run's length in optimizer steps."""
    images: PositiveInt | None = None
    """The run's length in images."""
    phases: tuple[Phase, ...] = ()
    """Progressive resizing. Empty: one phase of ``data.size``."""
    optim: OptimSettings
    schedule: AnySchedule
    """How the learning rate changes."""
    accumulate: PositiveInt = 1
    """Batches a rank adds up before a step."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: an image's loss counts in inverse proportion to its class's training images. Attacks stay as they
    are, since each image is attacked for itself, and so does what gradalign adds. Not with trades."""
    ema: Fraction | None = None
    """Decay per step of the averaged weights, which are then evaluated and exported. ``null``: no average."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """What the network computes in. ``auto``: the fastest that the device computes in."""
    compile: bool = False
    """Compile the network with ``torch.compile``."""
    engine: EngineName = "auto"
    """What carries gradients. ``auto``: as the launcher asks."""
    allreduce: AllreduceSettings = AllreduceSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluation: EvaluationSettings
    target: Fraction | None = None
    """Robust accuracy at which training ends. ``null``: it ends after its length."""
    target_margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """By how much the monitor must exceed ``target``."""
    log_every: PositiveInt = 50
    """Steps between two entries of the log."""
    trackers: Trackers = ()
    """Who shows the run: experiment trackers, offline unless their own variables say otherwise."""

    @model_validator(mode="after")
    def _fit_together(self) -> "RunConfig":
        if wrong := list(problems(self)):
            raise Invalid(wrong)
        return self

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """The phases, or the one that a run without them is."""
        duration = {key: length for key in DURATIONS if (length := getattr(self, key))}
        if self.phases:
            return shared_out(self.phases, duration)
        return (Phase(**duration, size=self.data.size, batch_size=self.data.batch_size),)

    @property
    def goal(self) -> float | None:
        """The robust accuracy that the monitor must read for training to end; rounded, as 0.1 + 0.2 is above 0.3."""
        return None if self.target is None else round(self.target + self.target_margin, 9)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.runs / self.name

    @property
    def settled(self) -> "RunConfig":
        """What it comes to, for comparisons: phases have lengths, and positions are epochs where the length is."""
        phases = self.all_phases if self.phases else ()
        epochs = [phase.epochs for phase in self.all_phases]
        schedule = self.schedule.fixed(sum(filter(None, epochs))) if all(epochs) else self.schedule
        return self.model_copy(update={"phases": phases, "schedule": schedule})

    def dump(self) -> str:
        """YAML that :func:`load` reads back as the same configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
