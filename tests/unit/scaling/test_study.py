"""Studies: what a file says, which jobs follow from it, and what is said of a wrong one."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcfast import cli
from hpcfast.config import load as load_run
from hpcfast.errors import UserError
from hpcfast.runs import lock
from hpcfast.scaling import jobs, study
from tests.unit.stories import SUMMARY

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.yaml"))
GOOD = {
    "title": "a try",
    "strong": [1, 2],
    "weak": [2],
    "seeds": 2,
    "data": [
        {
            "name": "digits", "target": 0.5, "margin": 0.1, "global_batch": 8, "rank_batch": 6,
            "methods": [{"name": "fast", "config": "run.yaml", "set": ["epochs=7"]}],
        }
    ],
}  # fmt: skip
Load = Callable[..., study.Study]


def named(data: str, method: str) -> dict[str, Any]:
    """A data set with one method."""
    return {**GOOD["data"][0], "name": data, "methods": [{"name": method, "config": "run.yaml"}]}  # type: ignore[index]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load the good study with keys changed; ``digits`` changes its data set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").touch()

    def made(digits: dict[str, Any] | None = None, **changed: Any) -> study.Study:
        values = {**GOOD, **changed}
        if digits is not None:
            values["data"] = [{**GOOD["data"][0], **digits}]  # type: ignore[index]
        (tmp_path / "try.yaml").write_text(yaml.safe_dump(values))
        return study.load(tmp_path / "try.yaml")

    return made


def test_jobs_go_seed_by_seed_and_share_the_batch(load: Load) -> None:
    made = jobs.jobs(load(ranks_per_node=2))
    kinds = ["strong-1", "strong-2", "weak-2"]
    assert [job.name for job in made] == [f"digits-fast-{kind}-seed{seed}" for seed in (0, 1) for kind in kinds]
    assert [(job.ranks, job.batch) for job in made[:3]] == [(2, 4), (4, 2), (4, 6)]


def test_a_run_has_what_the_study_says_of_it(load: Load) -> None:
    job = jobs.jobs(load(set=["epochs=5", "log_every=1"]))[4]
    assert job.arguments[:2] == ["train", "run.yaml"]
    settings = dict(text.split("=", 1) for text in job.overrides)
    assert settings["epochs"] == "7", "the method's own come after the study's"
    assert settings["target"] == "0.5"
    assert settings["target_margin"] == "0.1"
    assert settings["seed"] == "1"
    assert settings["data.batch_size"] == "4"
    assert (
        Path(settings["runs"]) / settings["name"] == job.folder == Path("studies/try/runs/digits-fast-strong-2-seed1")
    )


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"nodse": [1]}, ["nodse: unknown key"]),
        ({"together": False}, ["together: unknown key"]),
        ({"digits": {"bach": 1}}, ["data.0.bach: unknown key"]),
        ({"strong": [0]}, ["strong.0", "got 0"]),
        ({"strong": [], "weak": []}, ["strong: no node counts", "strong: [1, 2, 4]"]),
        ({"strong": [2, 2]}, ["strong: 2 is there twice"]),
        ({"seeds": 0}, ["seeds", "got 0"]),
        ({"strong": [3]}, ["data.0.global_batch: 8 images cannot be shared out over 3 ranks", "a multiple of 3"]),
        ({"digits": {"rank_batch": None}}, ["data.0.rank_batch: missing"]),
        ({"digits": {"target": 1.5}}, ["data.0.target", "got 1.5"]),
        ({"digits": {"methods": []}}, ["data.0.methods"]),
        ({"data": [named("a", "b-c"), named("a-b", "c")]}, ["data: two methods' runs would be called a-b-c-"]),
        ({"set": ["seed=3"]}, ["seed follows from the study"]),
        ({"set": ["epochs"]}, ["'epochs' is no setting"]),
        ({"set": ["data.path=a\n$(touch pwned)"]}, ["set.0", "line break"]),
        ({"title": "a\rb"}, ["title", "line break"]),
        ({"name": "../up"}, ["name", "'../up'"]),
        ({"digits": {"methods": [{"name": "a", "config": "no.yaml"}]}}, ["data.0.methods.0.config", "no.yaml"]),
    ],
)
def test_a_wrong_study_is_one_message(load: Load, changed: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(**changed)
    assert [part for part in parts if part not in str(caught.value)] == [], caught.value


@pytest.mark.parametrize("path", ["nowhere.yaml", "configs/studies"])
def test_what_is_no_file_is_told_with_those_there_are(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=f"no study {path}; there are: .*small.yaml"):
        study.load(Path(path))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_checkout_has_sound_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for job in {job.kind: job for job in jobs.jobs(study.load(path))}.values():
        config = load_run(job.method.config, job.overrides)
        assert config.folder == job.folder
        assert (config.target, config.data.batch_size) == (job.of.target, job.batch)
        assert not config.phases


def hpcfast(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpcfast", "scaling", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A study of the digits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    text = (ROOT / "configs" / "studies" / "tiny.yaml").read_text()
    (tmp_path / "try.yaml").write_text(text.replace("set:\n", f"set:\n  - data.path={tmp_path}\n"))
    return tmp_path / "try.yaml"


@pytest.mark.parametrize("command", ["plan", "run", "collect", "report", "predict"])
def test_runs_of_another_configuration_are_refused(
    planned: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs.jobs(study.load(planned))[0]
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").write_text(load_run(job.method.config, job.overrides).dump())
    (job.folder / "summary.json").write_text(json.dumps(SUMMARY | {"time_to_robust_accuracy_seconds": 5}))
    assert hpcfast(monkeypatch, "collect", "try.yaml") == 0
    planned.write_text(planned.read_text().replace("target: 0.01", "target: 0.02"))
    assert hpcfast(monkeypatch, command, "try.yaml") == 2
    error = capsys.readouterr().err
    assert "runs of another configuration than the study's are there" in error
    assert "studies/try/runs/digits-fast-strong-1-seed0" in error
    assert "give the study another name:" in error


def test_runs_whose_data_were_elsewhere_are_of_another_study(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = jobs.jobs(study.load(planned))[0]
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").write_text(load_run(job.method.config, job.overrides).dump())
    (job.folder / "summary.json").write_text("{}")
    planned.write_text(planned.read_text().replace("set:\n", "set:\n  - data.stage=$TMPDIR\n"))
    assert hpcfast(monkeypatch, "plan", "try.yaml") == 2, "it was timed on another disk"
    assert "runs of another configuration" in capsys.readouterr().err


def test_only_one_runs_a_study(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock.held(Path("studies/try"), "study", "", ""):
        assert hpcfast(monkeypatch, "run", "try.yaml", "--local") == 2
    assert "in use by another 'hpcfast scaling run'" in capsys.readouterr().err


def test_plan_prints_jobs_and_no_invented_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert hpcfast(monkeypatch, "plan", "configs/studies/imagenet_l2.yaml") == 0
    out = capsys.readouterr().out
    assert "50 jobs, 0 done; 50 left: node time unknown" in out
    assert "cost" not in out


def test_a_data_set_that_is_not_there_is_named_unless_its_jobs_are_done(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(planned.read_text())
    values["data"] = [{**values["data"][0], "name": name, "set": [f"data.path={name}"]} for name in ("gone", "there")]
    planned.write_text(yaml.safe_dump(values))
    Path("there").mkdir()
    assert hpcfast(monkeypatch, "run", "try.yaml", "--local") == 2
    assert "no data set gone; prepare it" in capsys.readouterr().err
    for job in jobs.jobs(study.load(planned)):
        job.folder.mkdir(parents=True)
        (job.folder / "config.yaml").write_text(load_run(job.method.config, job.overrides).dump())
        done = SUMMARY | {"world_size": job.ranks, "time_to_robust_accuracy_seconds": 5}
        (job.folder / "summary.json").write_text(json.dumps(done))
    assert hpcfast(monkeypatch, "run", "try.yaml", "--local") == 0
