"""Who may write into a run directory, and what is lost by it."""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcfast.config import RunConfig, read_run
from hpcfast.errors import UserError
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import claim as claims
from tests.unit.stories import SUMMARY

Tiny = Callable[..., RunConfig]


def claim(config: RunConfig, overwrite: bool = False) -> None:
    with claims.claim(config, overwrite):
        pass


def refusal(config: RunConfig, overwrite: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        claim(config, overwrite)
    return str(caught.value)


def fill(run: RunDirectory) -> list[Path]:
    """Make all that a run leaves behind."""
    files = [run.checkpoints / "LAST", run.figures / "a.png", run.weights, run.model, run.summary, run.events]
    files += [run.failures / "step-00000001-rank-0.json", run.stacks / "rank-00001.txt"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(SUMMARY))
    return files


def test_a_new_run_gets_a_folder_with_its_configuration(tiny: Tiny, tmp_path: Path) -> None:
    claim(tiny())
    assert read_run(RunDirectory(tmp_path / "runs" / "tiny")) == tiny()


def test_the_same_configuration_may_go_on_and_loses_nothing(tiny: Tiny) -> None:
    claim(tiny())
    files = fill(RunDirectory(tiny().folder))
    claim(tiny())
    assert all(file.is_file() for file in files)


def test_what_a_run_directory_holds(tiny: Tiny) -> None:
    assert claims.state(tiny()) == "none"
    claim(tiny())
    assert (claims.state(tiny()), claims.state(tiny("seed=1"))) == ("unfinished", "other")
    fill(RunDirectory(tiny().folder))
    assert (claims.state(tiny()), claims.state(tiny("seed=1"))) == ("finished", "other")


def test_a_run_may_be_moved(tiny: Tiny, tmp_path: Path) -> None:
    claim(tiny())
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    moved = tiny(f"runs={tmp_path / 'elsewhere'}")
    claim(moved)
    assert read_run(RunDirectory(moved.folder)) == tiny(), "the moved run's own file is left as it was"


def test_its_data_may_be_moved_and_staged(tiny: Tiny) -> None:
    claim(tiny())
    moved = tiny("data.path=elsewhere", "data.stage=$TMPDIR")
    with claims.claim(moved, overwrite=False) as before:
        assert before == tiny().data
    assert read_run(RunDirectory(tiny().folder)) == tiny(), "whether they are the same data is still to be seen"
    with claims.claim(moved, overwrite=True) as before:
        assert before == moved.data
    assert read_run(RunDirectory(tiny().folder)) == moved


def test_a_finished_run_that_noted_no_data_knows_them_by_their_path(tiny: Tiny) -> None:
    claim(tiny())
    run = RunDirectory(tiny().folder)
    run.summary.write_text(json.dumps(SUMMARY))
    claim(tiny("data.stage=/tmp"))
    message = refusal(tiny("data.path=elsewhere", "data.stage=/tmp"))
    assert "+  path: elsewhere" in message
    assert "stage" not in message
    run.summary.write_text(json.dumps({**SUMMARY, "data": {"images": {}, "digests": {}}}))
    claim(tiny("data.path=elsewhere"))


def test_whether_there_is_anything_to_do_is_known_before_the_claim(tiny: Tiny) -> None:
    assert not claims.finished(tiny(), overwrite=False)
    assert not tiny().folder.exists()
    claim(tiny())
    assert not claims.finished(tiny(), overwrite=False)
    fill(RunDirectory(tiny().folder))
    assert claims.finished(tiny(), overwrite=False)
    assert not claims.finished(tiny("epochs=7"), overwrite=True)
    with pytest.raises(UserError, match="another configuration"):
        claims.finished(tiny("epochs=7"), overwrite=False)


def test_another_configuration_is_refused_with_the_difference(tiny: Tiny) -> None:
    claim(tiny())
    message = refusal(tiny("epochs=7", "data.path=elsewhere", "data.stage=/tmp"))
    assert "-epochs: 3" in message
    assert "+epochs: 7" in message
    assert "--overwrite" in message
    for key in ("seed", "path", "stage"):
        assert key not in message, f"what is equal, or need not be, should not be shown:\n{message}"
    assert read_run(RunDirectory(tiny().folder)) == tiny()


def test_overwrite_clears_what_a_run_writes_and_nothing_else(tiny: Tiny) -> None:
    claim(tiny())
    run = RunDirectory(tiny().folder)
    files = fill(run)
    (run.path / "notes.txt").write_text("mine")
    claim(tiny("epochs=7"), overwrite=True)
    assert not [file for file in files if file.exists()]
    assert (run.path / "notes.txt").read_text() == "mine"
    assert read_run(run).epochs == 7


def test_overwrite_of_a_new_run_is_no_error(tiny: Tiny) -> None:
    claim(tiny(), overwrite=True)
    assert read_run(RunDirectory(tiny().folder)) == tiny()


def test_what_a_run_killed_as_it_began_has_left_is_no_strangers(tiny: Tiny) -> None:
    tiny().folder.mkdir(parents=True)
    (tiny().folder / "config.yaml.0f1e2d3c.part").write_text("threat:")
    claim(tiny())
    assert read_run(RunDirectory(tiny().folder)) == tiny()
    assert not list(tiny().folder.glob("*.part"))


def test_a_run_removes_what_a_kill_left_of_its_files_and_no_others(tiny: Tiny) -> None:
    claim(tiny())
    left, others = tiny().folder / "model.safetensors.0f1e2d3c.part", tiny().folder / "report.html.0f1e2d3c.part"
    left.touch()
    others.touch()  # a report is written without the lock: by whom, and whether still, cannot be known
    claim(tiny())
    assert not left.exists()
    assert others.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_no_run_is_refused(tiny: Tiny, overwrite: bool) -> None:
    tiny().folder.mkdir(parents=True)
    thesis = tiny().folder / "thesis.txt"
    thesis.write_text("years of work")
    assert "holds files but no run" in refusal(tiny(), overwrite)
    assert thesis.read_text() == "years of work"
    assert not (tiny().folder / "config.yaml").exists()


def test_an_empty_folder_is_taken(tiny: Tiny) -> None:
    tiny().folder.mkdir(parents=True)
    claim(tiny())
    assert read_run(RunDirectory(tiny().folder)) == tiny()


def test_a_folder_that_cannot_be_made_is_named(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    message = refusal(tiny(f"runs={tmp_path / 'file'}"))
    assert f"cannot write the run directory {tmp_path}/file/tiny" in message
    assert "set runs=" in message


def test_a_run_in_use_is_refused_and_free_again_afterwards(tiny: Tiny) -> None:
    with claims.claim(tiny(), False):
        for overwrite in (False, True):
            assert "is in use by another process" in refusal(tiny(), overwrite)
    claim(tiny())


def test_another_process_is_kept_out_and_a_dead_one_holds_nothing(tiny: Tiny) -> None:
    claim(tiny())
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, tiny().folder / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert "is in use by another process" in refusal(tiny())
        other.kill()
    claim(tiny())


def test_a_refused_claim_lets_the_lock_go(tiny: Tiny) -> None:
    claim(tiny())
    with pytest.raises(UserError, match="another configuration") as caught:
        claim(tiny("epochs=7"))
    with (tiny().folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where the refused claim still holds it
    assert caught.value


def test_reading_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run directory .*hpcfast train"):
        read_run(RunDirectory(tmp_path))
    assert RunDirectory(tmp_path).read_summary() is None


def test_a_damaged_config_of_an_old_run_is_named(tiny: Tiny) -> None:
    claim(tiny())
    RunDirectory(tiny().folder).config.write_text("epochs: 3\n")
    assert "config.yaml: wrong settings" in refusal(tiny())
