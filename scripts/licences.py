"""The licences of all packages that are installed, as they state them: ``python scripts/licences.py``."""

from collections import defaultdict
from email.message import Message
from importlib.metadata import distributions

PREFIX = "License :: "


def licence(about: Message) -> str:
    """What a package's metadata say: an SPDX expression, else classifiers, else the first line of a text."""
    if expression := about.get("License-Expression"):
        return expression
    stated = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith(PREFIX)]
    text = (about.get("License") or "").strip().splitlines()
    return ", ".join(stated) or (text[0][:60] if text else "unknown")


def main() -> None:
    """Print a line for each licence, with the packages that have it."""
    found = defaultdict(set)
    for each in distributions():
        found[licence(each.metadata)].add(f"{each.name} {each.version}")  # type: ignore[arg-type]  # it is a Message
    for name, packages in sorted(found.items()):
        print(f"{name}: {', '.join(sorted(packages))}")


if __name__ == "__main__":
    main()
