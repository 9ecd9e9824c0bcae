"""What settings were called in earlier versions. In a run's own files the old names go on meaning what they meant."""

from typing import Any

ATTACKS = {"fgsm": "fgsm_rs", "natural": "standard"}
"""Names of attacks: before, and now."""


def rename(values: Any, at: str = "") -> dict[str, str]:
    """Put the names of now into ``values``, a nested configuration, in place.

    Returns:
        The settings that had an old name, e.g. "attack.name", and the name that they have now.
    """
    found = {}
    is_attack = at.rpartition(".")[2] == "attack" or at.rstrip("0123456789").endswith("ladder.")
    if isinstance(values, dict) and is_attack and str(values.get("name")) in ATTACKS:
        values["name"] = found[f"{at}.name"] = ATTACKS[values["name"]]
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inner:
        found |= rename(value, f"{at}.{key}" if at else str(key))
    return found
