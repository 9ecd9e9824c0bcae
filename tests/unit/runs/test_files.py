"""Files that are whole or not there, with several writers too."""

import multiprocessing
import os
from pathlib import Path

import pytest

from hpcfast.runs import files


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    files.save_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "no .part is left behind"


def test_of_two_writers_the_later_one_wins_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(path) as slow:
        slow.write_text("the first half")
        files.save_text(path, "all of the other")
        assert path.read_text() == "all of the other"
        with slow.open("a") as file:
            file.write(", the second half")
    assert path.read_text() == "the first half, the second half"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def _write_often(path: Path, letter: str) -> None:
    for _ in range(100):
        files.save_text(path, letter * 100_000)


def test_a_reader_never_sees_a_mixture_of_two_processes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.save_text(path, "a" * 100_000)
    writers = [multiprocessing.get_context("spawn").Process(target=_write_often, args=(path, c)) for c in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        text = path.read_text()
        assert text in ("a" * 100_000, "b" * 100_000)
    assert [writer.exitcode for writer in writers] == [0, 0], "each put its own file in place"


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127])
def test_the_longest_names_have_room_for_a_temporary_one(tmp_path: Path, name: str) -> None:
    files.save_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"


def test_names_that_are_no_utf_8_are_written_as_their_bytes(tmp_path: Path) -> None:
    name = b"image\xe9.png".decode(errors="surrogateescape")
    files.save_text(tmp_path / "list", name)
    assert (tmp_path / "list").read_bytes() == b"image\xe9.png"


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "a.png", tmp_path / "deep" / "b.png", tmp_path / "folder.part" / "c.png"]
    left = [tmp_path / "a.png.0f1e2d3c.part", tmp_path / "deep" / "b.png.0f1e2d3c.part"]
    for path in (*kept, *left):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    files.clean(tmp_path)
    assert [path for path in (*kept, *left) if path.exists()] == kept


@pytest.mark.parametrize("folder", ["/proc/self/fd", "/dev/fd"])
def test_a_link_to_an_open_file_stays_one_and_what_was_written_there_stays(tmp_path: Path, folder: str) -> None:
    """As /dev/stdout does: it links to /proc/self/fd/1, and that to the file that a shell has redirected it to."""
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        link = tmp_path / "stdout"
        link.symlink_to(f"{folder}/{log.fileno()}")
        files.save_text(link, "a\n")
        files.save_text(Path(folder) / str(log.fileno()), "b\n")
        with pytest.raises(ZeroDivisionError):
            files.write_atomically(link, lambda part: 1 / 0)
    assert link.is_symlink()
    assert (tmp_path / "log").read_text() == "before\na\nb\n"


def test_a_users_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of before")
    (tmp_path / "link").symlink_to("file")
    files.save_text(tmp_path / "link", "text")
    files.write_atomically(tmp_path / "link", lambda part: part.write_bytes(b"picture"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.save_text(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
