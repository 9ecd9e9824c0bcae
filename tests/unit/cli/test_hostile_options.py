"""Whatever is given where a command takes text: it is refused in one message or used as data; nothing else happens."""

import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hpcfast import cli
from hpcfast.runs.names import printable
from tests.conftest import RUN
from tests.unit.hostile import some

TEXT = (str, Path, list[str], list[Path])
LEFT_OUT = {"doctor", "bench allreduce", "bench step", "bench loader"}
"""They take seconds, and no text but ``--json``, which others have too."""


def commands(
    group: Any, words: tuple[str, ...] = (), left_out: Container[str] = LEFT_OUT
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, (*words, name), left_out)
    elif " ".join(words) not in left_out:
        yield words, group


COMMANDS = dict(commands(typer.main.get_command(cli.app)))
GIVEN = [
    (words, parameter.name)
    for words, command in COMMANDS.items()
    for parameter in command.params
    if parameter.type_descriptor.annotation in TEXT
]


def line(words: tuple[str, ...], name: str, text: str) -> list[str]:
    """A command with ``text`` for one of its parameters, and something that is legal for those that it needs."""
    options, arguments = [], []
    for parameter in COMMANDS[words].params:
        if parameter.name != name and not parameter.required:
            continue
        value = text if parameter.name == name else "2" if parameter.type_descriptor.annotation is int else "here"
        if parameter.name == "format":
            value = "safetensors"
        if words[0] in ("train", "config", "submit") and parameter.name == "config" != name:
            value = "tiny.yaml"
        if parameter.opts[0].startswith("--"):
            options.append(f"{parameter.opts[0]}={value}")
        else:
            arguments.append(value)
    return ["hpcfast", *words, *options, "--", *arguments]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    Path("tiny.yaml").write_text(RUN.replace("size: 10,", "size: 10, path: images,"))
    monkeypatch.setenv("PATH", "/nowhere")
    return tmp_path


def test_there_are_many() -> None:
    assert len(GIVEN) > 60


@pytest.mark.parametrize("number", range(len(GIVEN)), ids=[f"{' '.join(words)} {name}" for words, name in GIVEN])
def test_it_is_refused_in_one_message_or_is_data(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words, name = GIVEN[number]
    for text in some(number):
        if "\0" in text:  # which no argument of a process can hold
            continue
        monkeypatch.setattr(sys, "argv", line(words, name, text))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert ended.value.code in (0, 2), (text, said.err[-500:])
        assert (ended.value.code == 2) == bool(said.err.strip()), text
        assert "Traceback" not in said.err
        assert "\x1b" not in said.out + said.err, text
        for shown in (said.out + said.err).splitlines():
            assert printable(shown) == shown, text
        assert not list(folder.rglob("X")), text
        assert sorted(path.name for path in folder.iterdir()) == ["in"], text
