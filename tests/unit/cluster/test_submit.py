"""hpcfast submit: the script it makes, and what it tells a Slurm that is not there."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcfast import cli
from hpcfast.cluster import slurm
from tests.conftest import RUN
from tests.unit.stories import SUMMARY

SBATCH = """#!/bin/sh
[ ! -e {folder}/refuse ] || {{ echo "sbatch: error: invalid partition" >&2; exit 1; }}
echo "$@" >>{folder}/calls
echo "$((100 + $(wc -l <{folder}/calls)));cluster"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a config, and a sbatch that writes down what it is told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RUN.replace("size: 10,", "size: 10, path: images,"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(folder=tmp_path))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpcfast", "submit", "tiny.yaml", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("option", ["comment=a\ntouch pwned", "comment=a\rb", "a\nb=c", "comment=\u2028touch"])
def test_an_option_of_two_lines_becomes_no_command(
    option: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    assert run(monkeypatch, "--sbatch", option, "--dry-run") == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert "in one line" in said.err


def test_dry_run_prints_a_script_and_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    before = sorted(folder.rglob("*"))
    flags = ["--nodes", "3", "--gpus-per-node", "2", "--time", "1:00:00", "--sbatch", "cpus-per-task=1"]
    assert run(monkeypatch, "epochs=2", "schedule={name: cosine}", *flags, "--dry-run") == 0
    script = capfd.readouterr().out
    assert sorted(folder.rglob("*")) == before
    header = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    for wanted in (
        "job-name=tiny",
        "nodes=3",
        "gpus-per-node=2",
        "ntasks-per-node=2",
        "time=1:00:00",
        "cpus-per-task=1",
    ):
        name = wanted.partition("=")[0]
        assert [line for line in header if f"--{name}=" in line] == [f"#SBATCH --{wanted}"]
    assert "#SBATCH --signal=USR2@120" in header, "the template's other options stay"
    last = script.splitlines()[-1]
    assert shlex.split(last) == ["job", "train", "tiny.yaml", "epochs=2", "schedule={name: cosine}", "$@"]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_jobs_of_a_chain_follow_one_another(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    assert run(monkeypatch, "--nodes", "2", "--partition", "gpu", "--chain", "3") == 0
    calls = (folder / "calls").read_text().splitlines()
    flags = "--parsable --job-name=tiny --nodes=2 --partition=gpu"
    assert calls[0] == f"{flags} runs/tiny.train.sh"
    assert calls[1] == f"{flags} --dependency=afterany:101 runs/tiny.train.sh"
    assert calls[2] == f"{flags} --dependency=afterany:102 runs/tiny.train.sh"
    script = (folder / "runs" / "tiny.train.sh").read_text()
    assert "export HPCFAST_AGAIN=never" in script
    out = capfd.readouterr().out
    for part in ("job 101, then 102, 103", "runs/tiny.train.sh", "tiny-101.log", "squeue", "scancel 101 102 103"):
        assert part in out


def test_one_job_may_be_requeued_and_its_script_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epochs in ("1", "2"):
        assert run(monkeypatch, f"epochs={epochs}") == 0
    script = (folder / "runs" / "tiny.train.sh").read_text()
    assert "epochs=2" in script
    assert "HPCFAST_AGAIN" not in script
    assert [path.name for path in (folder / "runs").iterdir()] == ["tiny.train.sh"]


def test_a_finished_run_is_evaluated_and_not_trained_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    assert run(monkeypatch, "--template", "evaluate") == 2
    assert "runs/tiny is not a finished run" in capfd.readouterr().err
    (folder / "runs" / "tiny").mkdir(parents=True)
    (folder / "runs" / "tiny" / "summary.json").write_text(json.dumps(SUMMARY))
    assert run(monkeypatch) == 2
    assert "runs/tiny is complete" in capfd.readouterr().err
    assert run(monkeypatch, "--template", "evaluate") == 0
    script = (folder / "runs" / "tiny.evaluate.sh").read_text()
    assert script.splitlines()[-1] == 'job eval runs/tiny --attack autoattack "$@"'
    assert "--job-name=evaluate-tiny" in (folder / "calls").read_text()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["epochs=0"], ["epochs", "got 0"]),
        (["--sbatch", "exclusive"], ["--sbatch exclusive", "NAME=VALUE"]),
        (["runs=/proc/nowhere"], ["/proc/nowhere", "runs="]),
    ],
)
def test_wrong_input_is_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, arguments: list[str], parts: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert all(part in error for part in parts), error
    assert not (folder / "calls").exists()


def test_what_slurm_refuses_is_said_in_its_words(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    (folder / "refuse").touch()
    assert run(monkeypatch, "--partition", "nowhere") == 2
    assert "invalid partition" in capfd.readouterr().err


def test_without_slurm_the_cure_is_a_dry_run(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(monkeypatch) == 2
    assert "--dry-run" in capfd.readouterr().err
    assert not (folder / "runs").exists()
    assert run(monkeypatch, "--dry-run") == 0


def test_a_users_own_file_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "tiny.train.sh").write_text("mine")
    assert run(monkeypatch) == 2
    assert "not a script of hpcfast" in capfd.readouterr().err
    assert (folder / "runs" / "tiny.train.sh").read_text() == "mine"


def test_without_its_template_an_installation_is_not_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(slurm, "SCRIPTS", folder / "slurm")
    assert run(monkeypatch, "--dry-run") == 2
    error = capfd.readouterr().err
    assert "train.sh" in error
    assert "install it anew" in error


def test_the_log_is_where_sbatch_is_told_to_write_it(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    assert run(monkeypatch, "--sbatch", "output=logs/%x.%j.txt") == 0
    assert "log      tail -F logs/tiny.101.txt" in capfd.readouterr().out
