"""What ``result.json`` and ``summary.json`` must hold to be read again; whatever else they hold is let through."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpcfast.errors import UserError
from hpcfast.runs.reading import read_json


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)


_Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Attack(_Open):
    name: str
    restarts: int = 1


class _Threat(_Attack):
    """An attack and the threat model."""

    norm: str
    eps: float


class _Point(_Open):
    eps: float
    robust_accuracy: float
    ci95: _Interval


class _Masking(_Open):
    suspicious: bool
    signs: list[str]


class _Intervals(_Open):
    clean_accuracy: _Interval
    robust_accuracy: _Interval


class _Balanced(_Open):
    clean: float
    robust: float


class _OfClass(_Open):
    name: str
    images: int
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    ci95: _Intervals | None = None


class _Confused(_Open):
    of: str = Field(alias="class")
    taken_for: str
    clean: int
    attacked: int


class Measured(_Open):
    """Accuracies under an attack."""

    clean_accuracy: float
    robust_accuracy: float
    n_eval: int
    ci95: _Intervals
    attack: _Threat
    balanced_accuracy: _Balanced | None = None
    classes: list[_OfClass] | None = None
    confusion: list[_Confused] | None = None


class _Confirmed(_Open):
    attack: _Attack
    robust_accuracy: float


class Result(Measured):
    """``result.json``, as any version wrote it."""

    seconds: float = 0.0
    curve: list[_Point] | None = None
    masking: _Masking | None = None
    about: dict[str, Any] | None = None


class Kept(Result):
    """``result.json``, as the same command shows it again."""

    seconds: float
    curve: list[_Point]
    masking: _Masking | None
    ids: list[int]
    bad_images: dict[str, str]


class _Cosine(_Open):
    mean: float
    ci95: _Interval


class Explanation(_Open):
    """``explain.json``, by ``hpcfast explain``."""

    alignment: dict[str, _Cosine]


class _Method(_Open):
    name: str


class _Collapse(_Open):
    epoch: int
    answer: dict[str, Any] | None


class _Collapses(_Open):
    collapses: list[_Collapse]


class _Versions(_Open):
    hpcfast: str


class _Digests(_Open):
    images: dict[str, int]
    digests: dict[str, str]


class Summary(Measured):
    """``summary.json``; docs/run-directory.md says what the keys mean. Earlier versions wrote none of the optional."""

    dataset: str
    model: str
    method: _Method
    norm: str
    eps: float
    epochs: float
    seed: int
    world_size: int
    precision: str
    device: str
    versions: _Versions
    train_images_per_second: float
    train_seconds: float
    wall_seconds: float
    data: _Digests | None = None
    seconds: dict[str, float] | None = None
    catastrophic_overfitting: _Collapses | None = None
    confirmation: list[_Confirmed] | None = None
    stragglers: list[str] | None = None
    hardware: str | None = None
    steps: int | None = None
    images: int | None = None
    slots: int | None = None
    noise_scale: float | None = None
    joules: float | None = None
    time_to_robust_accuracy_seconds: float | None = None


def read(path: Path, kind: type[BaseModel], cure: str) -> dict[str, Any]:
    """What the file ``path`` holds, once it is sure that it is of this ``kind``.

    Raises:
        UserError: it cannot be read or is damaged; ``cure`` says what to do.
    """
    try:
        found: dict[str, Any] = read_json(path)
        kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise UserError(f"{path} is damaged ({where}: {first['msg']}); {cure}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); {cure}") from None
    return found
