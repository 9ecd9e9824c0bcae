"""Damaged files are clear errors: a few of those that ``campaigns/fuzz.py`` tries for half an hour, drawn by seed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from hpcfast.datasets.packs.write import Recipe, pack
from hpcfast.errors import UserError
from hpcfast.report import runs as reports
from hpcfast.runs import check

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"
FILES = 25
"""Tried on each target."""
NAMES = (
    *("events", "run-config", "summary", "result", "explanation", "model", "index", "manifest", "skips", "classes"),
    *("hashes", "journal", "parts", "folder", "lock", "config", "words", "study", "weights", "pointers", "checkpoint"),
)


@pytest.fixture(scope="module")
def fuzzing(tmp_path_factory: pytest.TempPathFactory, plain: Any, images: Path) -> Iterator[Any]:
    """The campaign's modules, and its targets."""
    folder = tmp_path_factory.mktemp("fuzzing")
    pack(images, folder / "packed", Recipe(1, None, 0), lambda done, of: None)
    (folder / "targets").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CAMPAIGNS))
        patch.setattr(reports, "read_run", reports.read_run)  # type: ignore[attr-defined]
        patch.setattr(check, "read_yaml", check.read_yaml)  # type: ignore[attr-defined]
        from fuzzing import judging, mutations, target, targets

        every = targets.every(folder / "targets", plain.folder, folder / "packed")
        yield SimpleNamespace(judging=judging, mutations=mutations, targets=every, Target=target.Target)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fuzzing"]:
        del sys.modules[name]


def test_no_target_is_forgotten(fuzzing: Any) -> None:
    assert tuple(fuzzing.targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_hpcfast_wrote_is_read_and_damage_is_a_clear_error(fuzzing: Any, name: str) -> None:
    target, random = fuzzing.targets[name], Random(name)
    for data in target.seeds:
        target.read(data)
    for _ in range(FILES):
        fuzzing.judging.judge(target, fuzzing.mutations.mutate(target.kind, random.choice(target.seeds), random))


def reading(fuzzing: Any, read: Any) -> Any:
    return fuzzing.Target("text", [], read)


def test_what_is_no_clear_error_is_found(fuzzing: Any) -> None:
    def mute(data: bytes) -> None:
        raise UserError("")

    def endless(data: bytes) -> None:
        while True:
            pass

    kept: list[bytes] = []
    fuzzing.judging.SECONDS = 0.05
    for read, found in ((mute, "without a message"), (endless, "computes for longer"), (lambda _: 1 / 0, "zero")):
        with pytest.raises((fuzzing.judging.Wrong, ZeroDivisionError), match=found):
            fuzzing.judging.judge(reading(fuzzing, read), b"")
    fuzzing.judging.SECONDS = 10.0
    before = fuzzing.judging.peak()
    with pytest.raises(fuzzing.judging.Wrong, match="bytes of memory"):
        fuzzing.judging.judge(reading(fuzzing, lambda _: kept.append(b"x" * (before + (200 << 20)))), b"")
