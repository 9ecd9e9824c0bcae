"""A study's folder: whose it is, and who may work in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from hpcfast.errors import UserError
from hpcfast.runs import lock
from hpcfast.runs.files import save_text
from hpcfast.scaling.study import FREE, Study


@contextmanager
def claim(study: Study) -> Iterator[None]:
    """Make or reopen the folder of ``study`` and hold it for this block.

    Raises:
        UserError: it cannot be written, it holds something else, or another ``run`` is at work there.
    """
    taken = "is in use by another 'hpcfast scaling run'; wait for it"
    with lock.held(study.folder, "study", "go to a folder that you may write", taken):
        refuse_another(study)
        save_text(study.folder / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
        yield


def refuse_another(study: Study) -> None:
    """Refuse a folder that holds another study, or none.

    Raises:
        UserError: it does; with the settings that differ.
    """
    file = study.folder / "study.yaml"
    if not file.is_file():
        if any(not lock.is_ours(path.name) for path in study.folder.glob("*")):
            cure = "give this one another name:, or empty the folder"
            raise UserError(f"{study.folder} holds files but no study; {cure}")
        return
    there, given = (_fixed(values) for values in (yaml.safe_load(file.read_text()), study.model_dump(mode="json")))
    # "or None": a setting that one of them does not know is the same as one that is off.
    keys = [key for key in {**given, **there} if (there.get(key) or None) != (given.get(key) or None)]
    if keys:
        raise UserError(
            f"{study.folder} holds the runs of a study with another {', '.join(keys)} (see {file}); give this one "
            f"another name:, or move that folder away"
        )


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in FREE}
