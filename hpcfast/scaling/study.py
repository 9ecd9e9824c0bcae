"""A study: one YAML that says which runs are to be compared, on how many nodes, with how many seeds each.

Strong scaling keeps the global batch of one node and shares it out; weak scaling keeps a rank's batch, so that the
global batch grows with the ranks and the learning rate with it, as the configuration's ``optim.lr_rule`` says.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, FilePath, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from hpcfast.component import Invalid, Settings, validate
from hpcfast.errors import UserError
from hpcfast.runs.reading import listed, read_yaml, shipped

OWN = ("seed", "name", "runs", "target", "target_margin", "data.batch_size", "data.threads")
"""Settings of a run that follow from the study."""
Scaling = Literal["strong", "weak"]
T = TypeVar("T")


def _overrides(given: tuple[str, ...]) -> tuple[str, ...]:
    for text in given:
        key, found, _ = text.partition("=")
        if not found:
            raise ValueError(f"'{text}' is no setting; write key=value, e.g. epochs=10")
        if key in OWN:
            raise ValueError(f"{key} follows from the study; leave it out")
    return given


def _each_once(given: tuple[T, ...]) -> tuple[T, ...]:
    names = [getattr(each, "name", each) for each in given]
    if double := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{double[0]} is there twice; leave one out")
    return given


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]*$")]
Overrides = Annotated[tuple[str, ...], AfterValidator(_overrides)]


class Method(Settings):
    """A way of training, which a run's configuration describes."""

    name: Name
    config: FilePath
    set: Overrides = ()


class Data(Settings):
    """A data set, the robust accuracy to be reached on it, and the methods that shall reach it."""

    name: Name
    target: Annotated[float, Field(gt=0, lt=1)]
    margin: Annotated[NonNegativeFloat, Field(lt=1, description="how much the monitor's attack flatters")] = 0.0
    global_batch: Annotated[PositiveInt | None, Field(description="of strong scaling")] = None
    rank_batch: Annotated[PositiveInt | None, Field(description="of weak scaling")] = None
    methods: Annotated[tuple[Method, ...], Field(min_length=1), AfterValidator(_each_once)]
    set: Overrides = ()


class Study(Settings):
    """All that a study says; ``strong`` and ``weak`` list node counts."""

    name: Name
    title: str
    data: Annotated[tuple[Data, ...], Field(min_length=1), AfterValidator(_each_once)]
    strong: Annotated[tuple[PositiveInt, ...], AfterValidator(_each_once)] = ()
    weak: Annotated[tuple[PositiveInt, ...], AfterValidator(_each_once)] = ()
    seeds: Annotated[PositiveInt, Field(description="so many, from 0 on")] = 5
    ranks_per_node: PositiveInt = 1
    gpus: Annotated[bool, Field(description="one a rank")] = False
    threads: Annotated[PositiveInt, Field(description="a rank's")] = 1
    minutes: Annotated[PositiveFloat, Field(description="a job may take, with its start and confirmation")] = 60
    price_per_node_hour: Annotated[NonNegativeFloat | None, Field(description="null: no cost is reported")] = None
    set: Annotated[Overrides, Field(description="settings of all runs")] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "Study":
        names = [f"{data.name}-{method.name}" for data in self.data for method in data.methods]
        double = sorted({name for name in names if names.count(name) > 1})
        wrong = [f"data: two methods' runs would be called {name}-…; rename one" for name in double]
        if not (self.strong or self.weak):
            wrong.append("strong: no node counts, and none in weak; give e.g. strong: [1, 2, 4]")
        for i, data in enumerate(self.data):
            if self.weak and data.rank_batch is None:
                wrong.append(f"data.{i}.rank_batch: missing; weak scaling keeps it fixed")
            if self.strong and data.global_batch is None:
                wrong.append(f"data.{i}.global_batch: missing; strong scaling shares it out")
            counts = [n * self.ranks_per_node for n in self.strong]
            if uneven := [ranks for ranks in counts if (data.global_batch or 0) % ranks]:
                shared = f"{data.global_batch} images cannot be shared out over {uneven[0]} ranks"
                wrong.append(f"data.{i}.global_batch: {shared}; give a multiple of {uneven[0]}")
        if wrong:
            raise Invalid(wrong)
        return self

    @property
    def folder(self) -> Path:
        """Where its runs and its report are."""
        return Path("studies") / self.name


def load(path: Path) -> Study:
    """Read a study; without a ``name`` it is called after the file.

    Raises:
        UserError: the file cannot be read, or settings are wrong, a line for each wrong key.
    """
    try:
        values = read_yaml(shipped(path))
    except (FileNotFoundError, IsADirectoryError):
        near = listed("configs/studies")
        raise UserError(f"no study {path}; there are: {near or 'none in configs/studies/'}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold 'key: value' lines at its top level")
    try:
        return validate(Study, {"name": path.stem, **values})
    except Invalid as error:
        lines = "\n".join(f"  {line}" for line in error.lines)
        raise UserError(f"{path}: wrong settings\n{lines}\ndocs/scaling.md explains them") from None
