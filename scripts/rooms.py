"""The picture of the rooms in CONTRIBUTING.md, drawn from the code: ``python scripts/rooms.py [--check]``.

Floors are the layers of the contract in setup.cfg; what a room is for is its package's first line; what it imports is
what grimp (import-linter's library) finds. ``--check`` writes nothing, and ends with 1 where the picture is old.
"""

import ast
import configparser
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms: python scripts/rooms.py -->\n", "<!-- end of rooms -->\n"


def floors() -> list[list[str]]:
    """Rooms by floor, the highest first; those on one floor do not import one another."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / "setup.cfg")
    lines = contract["importlinter:contract:layers"]["layers"].split("\n")
    return [line.replace("hpcfast.", "").replace(" ", "").split("|") for line in lines if line.strip()]


def purpose(room: str) -> str:
    """The first line of the room's docstring."""
    path = ROOT / "hpcfast" / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (
        (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0].replace(":class:", "").replace("``", "`")
    )


def picture() -> str:
    """A table, a row a room."""
    graph = grimp.build_graph("hpcfast")
    rows = ["| floor | room | what is there | imports |", "|---|---|---|---|"]
    rooms = [room for floor in floors() for room in floor]
    for number, floor in enumerate(reversed(floors())):
        for room in floor:
            used = [
                f"`{other}`"
                for other in rooms
                if other != room
                and graph.direct_import_exists(
                    importer=f"hpcfast.{room}", imported=f"hpcfast.{other}", as_packages=True
                )
            ]
            rows.append(f"| {number} | `{room}` | {purpose(room)} | {', '.join(used)} |")
    return "\n".join([*rows[:2], *reversed(rows[2:])]) + "\n"


def main() -> int:
    """Write or check the picture; returns the exit code."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    drawn = f"{before}{BEGIN}\n{picture()}\n{END}{after}"
    if "--check" not in sys.argv:
        PAGE.write_text(drawn)
    elif drawn != text:
        print(f"{PAGE.name}: the picture of the rooms is older than the code; run python scripts/rooms.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
