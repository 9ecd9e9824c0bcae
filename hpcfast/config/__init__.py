"""A run's configuration: YAML files and ``key=value`` overrides become one frozen, validated :class:`RunConfig`.

A file may name another with ``base:`` and then holds only what differs. Validation happens here, once, before
any device or file of the run is touched.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, SerializeAsAny, model_validator

from hpcfast.attacks import Attack
from hpcfast.attacks.balls import Threat
from hpcfast.component import Invalid, Settings, chosen_from, find, names, validate
from hpcfast.data import DataSettings
from hpcfast.errors import UserError
from hpcfast.models import ModelSettings
from hpcfast.optim import OptimSettings
from hpcfast.schedules import Schedule

KEPT = ("model", "optim")
"""Groups whose settings (but for ``options``) mean the same under another ``name``."""

AnyAttack = Annotated[SerializeAsAny[Attack], chosen_from("hpcfast.attacks")]
AnySchedule = Annotated[SerializeAsAny[Schedule], chosen_from("hpcfast.schedules")]


def _file_name(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError("a run's name becomes a folder's: use letters, digits, '-', '_' and '.', no '/'")
    return name


class Phase(Settings):
    """A stretch of training with its own image size and batch (progressive resizing, Wong et al. 2020)."""

    epochs: PositiveInt
    size: PositiveInt
    batch_size: PositiveInt


class Check(Settings):
    """One measurement of accuracy: which attack, on how many validation images (null: all)."""

    attack: AnyAttack
    images: PositiveInt | None = None


class EvaluationSettings(Settings):
    """``monitor`` runs every ``every`` epochs (0: never), ``final`` at the end; a batch is a rank's."""

    every: NonNegativeInt = 1
    monitor: Check
    final: Check
    batch_size: PositiveInt = 250


class RunConfig(Settings):
    """Everything that decides what a run computes."""

    name: Annotated[str, AfterValidator(_file_name)]
    runs: Path = Path("runs")
    seed: NonNegativeInt = 0
    threat: Threat
    data: DataSettings
    model: ModelSettings
    attack: AnyAttack
    epochs: PositiveInt
    phases: Annotated[tuple[Phase, ...], Field(description="empty: one phase of data.size")] = ()
    optim: OptimSettings
    schedule: AnySchedule
    evaluation: EvaluationSettings
    compression: Literal["none", "fp16"] = "none"
    log_every: PositiveInt = 50

    @model_validator(mode="after")
    def _fit_together(self) -> "RunConfig":
        problems = []
        total = sum(phase.epochs for phase in self.phases)
        if self.phases and total != self.epochs:
            problems.append(f"phases: their epochs sum to {total}, but epochs is {self.epochs}; make them equal")
        if self.schedule.warmup >= self.epochs:
            problems.append(f"schedule.warmup: {self.schedule.warmup} must be less than epochs ({self.epochs})")
        for key in ("mean", "std"):
            if (given := len(getattr(self.model, key))) != self.data.channels:
                problems.append(
                    f"model.{key}: has {given} numbers for data.channels={self.data.channels}; give one each"
                )
        if problems:
            raise Invalid(problems)
        return self

    def phase(self, epoch: int) -> Phase:
        """The phase that ``epoch`` (from 0) belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        return Phase(epochs=self.epochs, size=self.data.size, batch_size=self.data.batch_size)

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
    bad = [text for text in overrides or [] if "=" not in text]
    if bad:
        raise UserError(f"'{bad[0]}' is no setting: write key=value, e.g. epochs=10 or threat.eps=8/255")
    try:
        values = _merge(_read(path, ()), OmegaConf.from_dotlist(overrides or []))
        plain: Any = OmegaConf.to_container(values, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"{path}, {' '.join(overrides or [])}: {error}") from None
    try:
        return validate(RunConfig, {"name": path.stem, **plain})
    except Invalid as error:
        lines = "\n".join(f"  {line}" for line in error.lines)
        raise UserError(f"{path}: wrong settings\n{lines}\n'hpcfast config schema' lists all settings") from None


def schema() -> dict[str, Any]:
    """JSON schemas: of a configuration file, and of every component that a ``name`` in it can choose."""
    return {
        "run": RunConfig.model_json_schema(),
        **{
            group: {name: find(f"hpcfast.{group}", name).model_json_schema() for name in names(f"hpcfast.{group}")}
            for group in ("attacks", "schedules")
        },
    }


def _read(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    if path.resolve() in [p.resolve() for p in seen]:
        raise UserError(f"base: {' -> '.join(str(p) for p in (*seen, path))} is a circle; remove one 'base:'")
    try:
        values = OmegaConf.load(path)
    except FileNotFoundError:
        near = sorted(str(p) for p in Path("configs").glob("*.yaml"))
        origin = f" (the base of {seen[-1]})" if seen else ""
        raise UserError(f"no config file {path}{origin}; there are: {', '.join(near) or 'none in configs/'}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no readable YAML: {error}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} must hold 'key: value' lines at its top level")
    base = values.pop("base", None)
    if not isinstance(base, str | None):
        raise UserError(f"{path}: base: {base} is no file name; write e.g. 'base: digits_l2.yaml'")
    return values if base is None else _merge(_read(path.parent / base, (*seen, path)), values)


def _merge(base: DictConfig, over: DictConfig) -> DictConfig:
    """Merge ``over`` into ``base``; what belonged to a component that ``over`` replaces is dropped."""
    for key, new in over.items():
        old = base.get(key)
        if not (isinstance(old, DictConfig) and isinstance(new, DictConfig)):
            base[key] = new
            continue
        if "name" in new and new["name"] != old.get("name"):
            old = old if key in KEPT else OmegaConf.create({})
            old.pop("options", None)
        base[key] = _merge(old, new)
    return base
