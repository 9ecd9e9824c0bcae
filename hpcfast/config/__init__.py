"""A run's configuration: YAML files and ``key=value`` overrides become one frozen, validated :class:`RunConfig`.

A file may name another with ``base:`` and then holds only what differs. Validation happens here, once, before
any device or file of the run is touched.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, SerializeAsAny, model_validator

from hpcfast.attacks.norms import Threat
from hpcfast.component import Invalid, Settings, chosen_from, components, validate
from hpcfast.config import files
from hpcfast.config.checks import problems
from hpcfast.config.settings import (
    DURATIONS,
    AnyAttack,
    Check,
    CheckpointSettings,
    EvaluationSettings,
    Fraction,
    GuardSettings,
    Phase,
)
from hpcfast.data import DataSettings
from hpcfast.distributed import launcher
from hpcfast.distributed.settings import AllreduceSettings
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.optim import OptimSettings
from hpcfast.optim.schedules import Schedule
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.names import printable

__all__ = ["Check", "CheckpointSettings", "GuardSettings", "Phase", "RunConfig", "load", "parse", "read_run", "schema"]

AnySchedule = Annotated[SerializeAsAny[Schedule], chosen_from("hpcfast.optim.schedules")]


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


def load(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read ``path`` and its bases, apply ``key=value`` overrides, validate.

    Without a ``name`` the run is called after the file.

    Raises:
        UserError: a file cannot be read, or settings are wrong; the message has a line for each wrong key.
    """
    values = OmegaConf.to_container(OmegaConf.merge({"name": path.stem}, files.read(path)))
    if path.name == "config.yaml" and (path.parent / "events.jsonl").is_file():
        said = files.rename(values)  # it may be a run of an earlier version
        if said and launcher.rank() in (None, 0):
            print(f"{path} is of an earlier version; its old names mean: {', '.join(said)}", file=sys.stderr)
    return parse(values, overrides or [], str(path))


def read_run(run: RunDirectory, overrides: list[str] | None = None) -> RunConfig:
    """The configuration that ``run`` was made with, with ``overrides``.

    Raises:
        UserError: this is no run directory, or settings are wrong.
    """
    if not run.config.is_file():
        raise UserError(f"{run.path} is no run directory (it has no config.yaml); train one with 'hpcfast train'")
    return load(run.config, overrides)


def parse(values: Any, overrides: list[str], origin: str) -> RunConfig:
    """Apply ``key=value`` overrides to ``values``, a mapping, and validate.

    Raises:
        UserError: settings are wrong; the message names ``origin`` and has a line for each wrong key.
    """
    for text in overrides:
        if "=" not in text:
            raise UserError(f"'{text}' is no setting: write key=value, e.g. epochs=10 or threat.eps=8/255")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{printable(text)}: this is no UTF-8, and settings are kept as YAML, which is; rename the file, "
                f"or give a link to it that has another name"
            ) from None
    try:
        merged = files.merge(OmegaConf.create(values), OmegaConf.from_dotlist(overrides))
        plain: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, IndexError) as error:  # IndexError: of a key such as "["
        raise UserError(f"{origin}, {' '.join(overrides)}: {error}") from None
    try:
        return validate(RunConfig, plain)
    except Invalid as error:
        lines = "\n".join(f"  {line}" for line in error.lines)
        raise UserError(f"{origin}: wrong settings\n{lines}\n'hpcfast config schema' lists all settings") from None


def schema() -> dict[str, Any]:
    """JSON schemas: of a configuration file, and of every component that a ``name`` in it can choose."""
    groups = {"attacks": components("hpcfast.attacks"), "schedules": components("hpcfast.optim.schedules")}
    return {
        "run": RunConfig.model_json_schema(),
        **{group: {name: c.model_json_schema() for name, c in classes.items()} for group, classes in groups.items()},
    }
