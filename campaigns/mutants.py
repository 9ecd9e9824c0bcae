"""How much the unit tests notice: faults drawn by a seed are put into a copy of the tree, one at a time.

``python campaigns/mutants.py --count 100 --seed 0`` draws as many from each of four areas, runs against each fault the
tests that cover its line, the fastest first, until one fails, and writes docs/testing.md. A fault is killed if a test
fails or takes ten times as long as it should. What a stopped campaign has found is in ``--folder``, and the same
command goes on from there; killed faults stay killed, survivors are tried again if tests have changed.

Why not a library: mutmut 3.8 leaves alone all functions with a decorator (properties, ``torch.no_grad``), cosmic-ray
8.7 edits the checkout in place and runs all tests every time; neither draws by a seed.
"""

import argparse
import hashlib
import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import mutants_page
from mutants_tests import Coverage, copy_tree, digest, kill
from mutating import Mutant, Signatures, mutants

ROOT = Path(__file__).resolve().parents[1]
AREAS = {
    "attacks": ("hpcfast/attacks/*.py",),
    "evaluation": ("hpcfast/evaluation/*.py",),
    "training": tuple(
        f"hpcfast/training/{name}.py"
        for name in (
            "step",
            "loop",
            "precision",
            "guard",
            "validation",
            "course",
            "state",
            "train",
            "checkpoint",
        )
    ),
    "data order": tuple(f"hpcfast/data/{name}.py" for name in ("split", "order", "folder", "augment", "skips")),
}


@dataclass(frozen=True)
class Drawn:
    """A fault, and where it is."""

    area: str
    file: str
    mutant: Mutant

    @property
    def key(self) -> str:
        """Its name in the results: file, place and what is read there."""
        return f"{self.file} {self.mutant.start} {self.mutant.end} {self.mutant.text}"


@dataclass(frozen=True)
class Found:
    """What became of a fault."""

    key: str
    by: str
    """The test that failed; "" for a survivor."""
    tests: int
    """How many cover it."""
    seconds: float
    state: str
    """Digest of the tests it was tried with."""


def draw(tree: Path, seed: int, count: int) -> list[Drawn]:
    """``count`` faults of the package in ``tree``, as many from each area, by file and line.

    Those whose hashes with the seed are least: a change of the code changes the draw no more than itself.
    """
    signatures = Signatures()
    for file in sorted(tree.glob("hpcfast/**/*.py")):
        signatures.read(file.read_text())
    drawn = []
    for number, (area, patterns) in enumerate(AREAS.items()):
        found: list[tuple[str, Drawn]] = []
        alike: Counter[str] = Counter()
        for file in sorted(file for pattern in patterns for file in tree.glob(pattern)):
            for each in mutants(file.read_text(), signatures):
                name = f"{seed} {file.relative_to(tree)} {each.function} {each.before} {each.after}"
                alike[name] += 1
                place = hashlib.sha256(f"{name} {alike[name]}".encode()).hexdigest()
                found.append((place, Drawn(area, str(file.relative_to(tree)), each)))
        share = count * (number + 1) // len(AREAS) - count * number // len(AREAS)
        chosen = [each for _, each in sorted(found, key=lambda pair: pair[0])[:share]]
        drawn += sorted(chosen, key=lambda each: (each.file, each.mutant.start))
    return drawn


def campaign(folder: Path, seed: int, count: int) -> list[tuple[Drawn, Found]]:
    """Try all faults, but those that are settled; each result is in ``folder`` as soon as it is known."""
    tree, results = folder / "tree", folder / "results.jsonl"
    copy_tree(ROOT, tree)
    drawn, coverage = draw(tree, seed, count), Coverage(folder, tree)
    known = _known(results, digest(tree, "hpcfast/**/*.py"))
    tests_now = digest(tree, "tests/**/*.py")
    ended = []
    for number, each in enumerate(drawn, 1):
        found = known.get(each.key)
        if found is None or not (found.by or found.state == tests_now):
            found = _try(tree, each, coverage, tests_now)
            with results.open("a") as file:
                file.write(json.dumps({"package": digest(tree, "hpcfast/**/*.py"), **asdict(found)}) + "\n")
        ended.append((each, found))
        killed = sum(bool(one.by) for _, one in ended)
        what = f"{each.file}:{each.mutant.line} {each.mutant.function}"
        print(
            f"{number}/{count}  {killed} killed  {found.seconds:5.1f} s  {what}: {found.by or 'SURVIVES'}", flush=True
        )
    return ended


def _known(results: Path, package: str) -> dict[str, Found]:
    found = {}
    for line in results.read_text().splitlines() if results.exists() else ():
        row = json.loads(line)
        if row.pop("package") == package:
            found[row["key"]] = Found(**row)
    return found


def _try(tree: Path, drawn: Drawn, coverage: Coverage, state: str) -> Found:
    tests, began = coverage.of(drawn.file, drawn.mutant.function, drawn.mutant.line), time.monotonic()
    text = drawn.mutant.applied((tree / drawn.file).read_text())
    limit = 120 + 10 * sum(coverage.seconds[test] for test in tests)
    by = kill(tree, drawn.file, text, tests, limit) if tests else ""
    return Found(drawn.key, by, len(tests), round(time.monotonic() - began, 1), state)


def main() -> None:
    """Run the campaign that the command line asks for, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="faults in all (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutants", help="default runs/mutants")
    arguments = parser.parse_args()
    os.nice(10)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ended = campaign(folder, arguments.seed, arguments.count)
    mutants_page.write(ROOT, arguments.seed, [_row(*each) for each in ended])


def _row(drawn: Drawn, found: Found) -> tuple[str, str, str, str]:
    """Of the page's table: area, place, change, test."""
    code, mutant = mutants_page.code, drawn.mutant
    module = drawn.file.removeprefix("hpcfast/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    place = f"{module}{':' if mutant.function else ''}{mutant.function} | {mutant.line}"
    return drawn.area, place, f"{code(mutant.after)} | {code(mutant.before)}", found.by.removeprefix("tests/unit/")


if __name__ == "__main__":
    main()
