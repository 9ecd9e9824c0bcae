"""The help of every command: ``-h``, as wide as the terminal, with examples that are commands."""

import shlex
from pathlib import Path

import pytest
import typer.main

from hpcfast import cli
from tests.unit.cli.test_cli import Run, hpcfast
from tests.unit.cli.test_hostile_options import commands

__all__ = ["hpcfast"]  # the fixture

ROOT = Path(__file__).parents[3]
ALL = dict(commands(typer.main.get_command(cli.app), left_out=()))
GROUPS: list[tuple[str, ...]] = [(), *sorted({(words[0],) for words in ALL if len(words) > 1})]


@pytest.mark.parametrize("words", [*ALL, *GROUPS], ids=" ".join)
def test_h_is_help_and_has_the_width_of_the_terminal(
    hpcfast: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {}
    for columns in (70, 150):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown[columns] = hpcfast(*words, "-h").out
        assert shown[columns] == hpcfast(*words, "--help").out
        assert "-h, --help" in shown[columns]
        text = shown[columns].partition("\nExample")[0]
        assert max(map(len, text.splitlines())) <= columns
    if not words:  # which has more to say than 80 characters
        assert max(map(len, shown[150].splitlines())) > 100


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_ends_with_examples_that_are_commands(
    hpcfast: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, found, text = hpcfast(*words, "-h").out.rpartition("\nExample")
    assert found
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert 1 <= len(lines) <= 2
    for line in lines:
        typed = shlex.split(line)
        typed = typed[typed.index("hpcfast") + 1 :]
        assert tuple(typed[: len(words)]) == words
        ALL[words].make_context(words[-1], typed[len(words) :])  # which refuses what is no legal command line
        assert all((ROOT / word).is_file() for word in typed if word.startswith("configs/"))
