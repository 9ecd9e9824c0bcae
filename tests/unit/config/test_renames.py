"""Settings that had other names: refused in a user's configuration, applied in a run of an earlier version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpcfast.cli import app
from hpcfast.config import RunConfig, load, read_run, rename
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs import events
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import claim, train
from tests.conftest import write_images

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("change", "key", "name"),
    [
        ("attack.name=natural", "attack", "standard"),
        ("guard={every: 1, ladder: [{name: pgd}, {name: fgsm}]}", "guard.ladder.1", "fgsm_rs"),
        ("evaluation.final.attack={name: fgsm}", "evaluation.final.attack", "fgsm_rs"),
        ("attack={name: mixed, threats: [], attack: {name: fgsm}}", "attack.attack", "fgsm_rs"),
        ("evaluation.confirm=[{attack: {name: natural}}]", "evaluation.confirm.0.attack", "standard"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(tiny: Tiny, change: str, key: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"{key}\.name: '\w+' is called '{name}' here; write that"):
        tiny(change)


def test_a_gone_setting_of_an_earlier_run_is_left_out_and_said_if_it_meant_something() -> None:
    values = {"allreduce": {"op": "average", "fusion_megabytes": 32, "cycle_milliseconds": None}}
    assert rename(values) == ["allreduce.fusion_megabytes=32 is left to HOROVOD_FUSION_THRESHOLD, in bytes"]
    assert values == {"allreduce": {"op": "average"}}


def test_a_name_that_is_no_word_is_refused_as_one(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="attack.name: .* is not one of"):
        tiny("attack.name=[1]")


def test_the_numbers_of_an_earlier_schedule_were_epochs() -> None:
    values = {"schedule": {"name": "piecewise", "warmup": 0.5, "knots": [[0.0, 0.0], [0.8, 1.0], [2.4, 0.5]]}}
    assert rename(values) == ["the numbers of schedule are epochs"]
    assert values["schedule"]["warmup"] == "0.5 epochs"
    assert values["schedule"]["knots"] == [[0.0, 0.0], ["0.8 epochs", 1.0], ["2.4 epochs", 0.5]]
    assert rename(values) == [], "said once"
    steps = {"schedule": {"name": "step", "warmup": 0.0, "milestones": [1.0], "gamma": 0.1}}
    rename(steps)
    assert steps["schedule"] == {"name": "step", "warmup": 0.0, "milestones": ["1.0 epochs"], "gamma": 0.1}


def test_a_run_without_its_log_is_of_an_earlier_version_all_the_same(tiny: Tiny) -> None:
    """As one that somebody has published."""
    run = RunDirectory(tiny().folder)
    run.path.mkdir(parents=True)
    run.config.write_text(tiny().dump().replace("warmup: 0%", "warmup: 1.0"))
    assert read_run(run).schedule.warmup == "1 epochs"


def test_a_run_of_numbers_goes_on_with_the_shares_that_replaced_them(tiny: Tiny) -> None:
    config = tiny("schedule={name: step, milestones: [1/3]}")
    with claim.claim(config, overwrite=False):
        pass
    file = RunDirectory(config.folder).config
    file.write_text(file.read_text().replace("33.333333333333336%", "1.0"))
    assert claim.state(config) == "unfinished"
    assert claim.state(tiny("schedule={name: step, milestones: [2/3]}")) == "other"


def test_a_runs_name_is_its_own(tiny: Tiny) -> None:
    assert tiny("name=natural").name == "natural"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs that version 5eb2d55 made on these images: "finished", and one that was "stopped" after 5 of 9 steps."""
    shutil.unpack_archive(Path(__file__).parent / "earlier" / "runs.tar.gz", tmp_path)
    write_images(tmp_path / "shapes", {"train": 8, "val": 4}, classes=3)
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def test_a_run_of_an_earlier_version_resumes(earlier: Path, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    config = load(earlier / "stopped" / "config.yaml")
    assert config.attack.name == "fgsm_rs"
    assert "its old names mean: attack.name=fgsm_rs\n" in capfd.readouterr().err
    summary = train.train(config, world)
    assert summary["status"] == "finished"
    log = events.read(earlier / "stopped" / "events.jsonl")
    assert [event["step"] for event in log if event["key"] == "requeue"] == [5]
    assert "did not note its data" in capfd.readouterr().out


def test_a_run_of_an_earlier_version_is_measured_and_reported(earlier: Path, tmp_path: Path) -> None:
    before = json.loads((earlier / "finished" / "summary.json").read_text())
    run = str(earlier / "finished")
    assert CliRunner().invoke(app, ["eval", run, "--json", str(tmp_path / "now.json")]).exit_code == 0
    now = json.loads((tmp_path / "now.json").read_text())
    assert now["clean_accuracy"] == before["clean_accuracy"]
    assert now["robust_accuracy"] == before["robust_accuracy"]
    assert CliRunner().invoke(app, ["report", run]).exit_code == 0
    assert "fgsm" in (earlier / "finished" / "report.html").read_text()
