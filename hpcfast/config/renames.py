"""What settings were called in earlier versions: in the files of a run that one has made they mean what they meant."""

from typing import Any

from hpcfast.component import RENAMED
from hpcfast.distributed.settings import GONE

ATTACKS = RENAMED["hpcfast.attacks"]


def rename(values: Any, at: str = "") -> list[str]:
    """Put the names of now into ``values``, a nested configuration, in place.

    Returns:
        What a person should know, a phrase for each setting that meant something.
    """
    said = []
    is_attack = at.rpartition(".")[2] == "attack" or at.rstrip("0123456789").endswith("ladder.")
    if isinstance(values, dict) and is_attack and str(values.get("name")) in ATTACKS:
        values["name"] = ATTACKS[values["name"]]
        said.append(f"{at}.name={values['name']}")
    if isinstance(values, dict) and at == "allreduce":
        for key in GONE:
            if (value := values.pop(key, None)) is not None:
                said.append(f"{at}.{key}={value} is left to {GONE[key]}")
    inner: Any = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, inside in inner:
        said += rename(inside, f"{at}.{part}" if at else str(part))
    return said
