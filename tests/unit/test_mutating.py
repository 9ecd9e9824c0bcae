"""The faults that are put into the code, and the tool that sees which of them a test notices."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "campaigns"
TOY = '''\
"""A toy: 1 < 2."""

LIMIT = 0.5


def larger(a: int, b: int = 3, *, strict: bool = False) -> int:
    """The larger; not 4."""
    if a < b and not strict:
        raise ValueError(f"{a + 7} is too small" + "!")
    return max(a, b)


class Count:
    total = 0

    def note(self, n):
        self.say("noted", n + 1)
        self.total += n
        self.last = larger(n, 2, strict=True)
        return [i for i in range(n) if i != 2]
'''


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mutants

    yield mutants
    for name in ("mutants", "mutants_page", "mutants_tests", "mutating"):
        sys.modules.pop(name, None)


def faults(scripts: Any, source: str = TOY) -> list[Any]:
    signatures = scripts.Signatures()
    signatures.read(source)
    return list(scripts.mutants(source, signatures))


def test_the_faults_of_a_toy_are_these(scripts: Any) -> None:
    found = [(each.function, each.line, each.before, each.after) for each in faults(scripts)]
    expected = {
        ("", 3, "0.5", "1.5"),
        ("larger", 6, "3", "4"),
        ("larger", 6, "False", "True"),
        ("larger", 8, "a < b", "(a <= b)"),
        ("larger", 8, "a < b", "(a >= b)"),
        ("larger", 8, "a < b and (not strict)", "(a < b or not strict)"),
        ("larger", 8, "a < b and (not strict)", "True"),
        ("larger", 8, "a < b and (not strict)", "False"),
        ("larger", 8, "not strict", "(strict)"),
        ("larger", 10, "max(a, b)", "None"),
        ("larger", 10, "max(a, b)", "min(a, b)"),
        ("Count", 14, "0", "1"),
        ("Count.note", 18, "self.total += n", "pass"),
        ("Count.note", 19, "self.last = larger(n, 2, strict=True)", "pass"),
        ("Count.note", 19, "larger(n, 2, strict=True)", "larger(n, 2)"),
        ("Count.note", 19, "larger(n, 2, strict=True)", "larger(n, strict=True)"),
        ("Count.note", 19, "2", "3"),
        ("Count.note", 19, "True", "False"),
        ("Count.note", 20, "[i for i in range(n) if i != 2]", "None"),
        ("Count.note", 20, "i != 2", "True"),
        ("Count.note", 20, "i != 2", "(i == 2)"),
        ("Count.note", 20, "2", "3"),
    }
    assert {*found} == expected


def test_each_fault_changes_the_code_and_compiles(scripts: Any) -> None:
    for file in (SCRIPTS.parent / "hpcfast" / "attacks").glob("*.py"):
        source = file.read_text()
        texts = [each.applied(source) for each in faults(scripts, source)]
        for text in texts:
            compile(text, file, "exec")
        assert source not in texts
        assert len({*texts}) == len(texts)


def test_a_draw_is_a_function_of_its_seed_and_takes_as_many_of_each_area(scripts: Any) -> None:
    draws = [scripts.draw(SCRIPTS.parent, seed, 42) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    counts = [sum(each.area == area for each in draws[0]) for area in scripts.AREAS]
    assert sum(counts) == 42
    assert max(counts) - min(counts) <= 1
    assert len({each.key for each in draws[0]}) == 42
