"""Options that commands share."""

import json
import os
from pathlib import Path

import pytest

from hpcfast.cli.options import write_json


@pytest.mark.parametrize("number", ["/proc/self/fd", "/dev/fd"])
def test_a_link_to_an_open_file_stays_one_and_what_was_written_there_stays(tmp_path: Path, number: str) -> None:
    """As /dev/stdout does: it links to /proc/self/fd/1, and that to the file that a shell has redirected it to."""
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        link = tmp_path / "stdout"
        link.symlink_to(f"{number}/{log.fileno()}")
        write_json(link, {"a": 1})
        write_json(Path(number) / str(log.fileno()), {"b": 2})
    assert link.is_symlink()
    assert (tmp_path / "log").read_text() == 'before\n{\n "a": 1\n}\n{\n "b": 2\n}\n'


def test_a_users_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "numbers.json").write_text("of before")
    (tmp_path / "link").symlink_to("numbers.json")
    write_json(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "numbers.json").read_text()) == {"a": 1}


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, [1])
    assert json.loads(os.read(reader, 100)) == [1]
    os.close(reader)
