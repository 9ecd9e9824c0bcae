"""``hpcfast scaling check``: logs of real runs pass, however they were interrupted; logs that lie are found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.compliance_checker.mlp_compliance import ComplianceChecker
from mlperf_logging.compliance_checker.mlp_parser import parse_file

from hpcfast.cli import scaling
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.runs.check import check
from hpcfast.training import checkpoint, train, validation
from hpcfast.training.guard import Guard, Health
from tests.unit.whole_runs import Killed, at_call, die

Tiny = Callable[..., RunConfig]
GUARD = "guard={every: 1, images: 6, attack: {name: pgd, steps: 1}, ladder: [{name: nfgsm}]}"
MANDATORY = {
    *("init_start", "init_stop", "run_start", "requeue", "run_stop", "epoch_start", "epoch_stop", "train_loss"),
    *("checkpoint_start", "checkpoint_stop", "eval_start", "eval_stop", "clean_accuracy", "robust_accuracy"),
    *("rollback", "target_reached"),
}


@pytest.fixture(scope="session")
def eventful(elsewhere: Tiny, world: World) -> Path:
    """A run that collapsed, was killed in an epoch, and reached its target after the second."""
    with pytest.MonkeyPatch.context() as patch:
        found = iter([Health(0.9, 0.2, 0.1), *3 * [Health(0.5, 0.4, 0.9)]])
        patch.setattr(Guard, "examine", lambda *_: next(found))
        readings, original = iter([0.1, 0.7]), validation.evaluate
        patch.setattr(validation, "evaluate", lambda *args: {**original(*args), "robust_accuracy": next(readings)})
        config = elsewhere("name=eventful", GUARD, "target=0.6", "target_margin=0.1", "log_every=2")
        with patch.context() as once:
            at_call(once, validation.Run, "save", 4, die)  # at the end of the second epoch
            with pytest.raises(Killed):
                train.train(config, world)
        train.train(config, world)
    return config.folder


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def faults(run: Path, told: list[dict[str, Any]]) -> str:
    """What the checker finds where ``run`` had written ``told``."""
    lying = run.parent / "lying"
    lying.mkdir(exist_ok=True)
    for name in ("config.yaml", "summary.json"):
        shutil.copy(run / name, lying)
    (lying / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    try:
        check(lying)
    except UserError as error:
        return str(error)
    return ""


def test_plain_and_eventful_runs_pass(plain: RunConfig, eventful: Path) -> None:
    assert "sound: 3 epochs, 9 steps, requeues: 0, rollbacks: 0; no target" in str(check(plain.folder))
    assert {event["key"] for event in lines(eventful)} >= MANDATORY
    assert "sound: 2 epochs, 6 steps, requeues: 1, rollbacks: 1; not converged" in str(check(eventful))
    assert not faults(eventful, lines(eventful))


OVERRIDES = [
    ["epochs=null", "steps=7", "evaluation.every=2", "checkpoint.minutes=1.0e-9", "checkpoint.asynchronous=true"],
    [
        "phases=[{epochs: 1, size: 8, batch_size: 6}, {steps: 4, size: 12, batch_size: 4}]",
        "epochs=null",
        "log_every=9",
        "checkpoint.minutes=auto",
    ],
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_runs_of_every_shape_pass(overrides: list[str], tiny: Tiny, world: World) -> None:
    train.train(tiny(*overrides), world)
    check(tiny(*overrides).folder)


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [(checkpoint, "write", 1), (validation, "evaluate", 2), (validation.saved, "write", 1)],
)
def test_a_run_killed_anywhere_passes(
    where: Any, name: str, call: int, tiny: Tiny, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, where, name, call, die)
        with pytest.raises(Killed):
            train.train(tiny(), world)
    with pytest.raises(UserError, match="unfinished"):
        check(tiny().folder)
    with (tiny().folder / "events.jsonl").open("a") as log:
        log.write('{"time": 1')  # the line that the kill cut off
    train.train(tiny(), world)
    check(tiny().folder)


def mandatory(told: list[dict[str, Any]]) -> list[int]:
    """Where something must stand; not a killed process's last line, for the kill might have come before it."""
    killed = [event["key"] == "init_start" for event in told[1:]] + [False]
    return [i for i, event in enumerate(told) if event["key"] in MANDATORY and not killed[i]]


def test_no_mandatory_line_can_be_missing(eventful: Path) -> None:
    told = lines(eventful)
    assert len(mandatory(told)) > 40
    assert not [told[at] for at in mandatory(told) if not faults(eventful, told[:at] + told[at + 1 :])]


def test_no_two_lines_can_change_places(eventful: Path) -> None:
    """Their times stay sorted: what betrays them is what they say."""
    told, unseen = lines(eventful), []
    for at in mandatory(told)[:-1]:
        one, other = told[at], told[at + 1]
        swapped = [*told[:at], {**other, "time": one["time"]}, {**one, "time": other["time"]}, *told[at + 2 :]]
        if other["key"] in MANDATORY and not faults(eventful, swapped):
            unseen.append((one["key"], other["key"]))
    assert set(unseen) <= {("clean_accuracy", "robust_accuracy")}


EDITS: dict[str, Callable[[Any], Any]] = {
    "an earlier step": lambda event: {**event, "step": event["step"] - 1},
    "a later step": lambda event: {**event, "step": event["step"] + 1},
    "an earlier epoch": lambda event: {**event, "epoch": event["epoch"] - 1},
    "a later epoch": lambda event: {**event, "epoch": event["epoch"] + 1},
    "an earlier time": lambda event: {**event, "time": event["time"] - 999},
    "a later time": lambda event: {**event, "time": event["time"] + 999},
    "another name": lambda event: {**event, "key": "nothing"},
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_no_mandatory_line_can_be_edited(eventful: Path, edit: str) -> None:
    told = lines(eventful)
    lies = [(at, EDITS[edit](told[at])) for at in mandatory(told)]
    assert not [lie for at, lie in lies if not faults(eventful, [*told[:at], lie, *told[at + 1 :]])]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("robust_accuracy", 1.5, "no fraction"),
        ("robust_accuracy", "much", "no fraction"),
        ("target_reached", 0.65, "no evaluation before it read 0.7"),
        ("rollback", None, "cannot be None"),
        ("eval_start", "tea", "eval_start of 'tea'"),
    ],
)
def test_an_impossible_value_is_named_with_its_line(eventful: Path, key: str, value: Any, said: str) -> None:
    told = lines(eventful)
    at = max(i for i, event in enumerate(told) if event["key"] == key)
    told[at]["value"] = value
    assert f"events.jsonl:{at + 1}: " in (found := faults(eventful, told))
    assert said in found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("epochs", 3), ("steps", 5), ("images", 24), ("global_batch", 16), ("robust_accuracy", 0.123)),
        *(("time_to_robust_accuracy_seconds", 0.001), ("target_reached_seconds", 999.0), ("wall_seconds", 999.0)),
        *(("target_reached_seconds", None), ("confirmation", []), ("target", 0.5), ("world_size", 2)),
        ("ettr", {"ratio": 0.999}),
    ],
)
def test_a_summary_that_says_otherwise_is_found(eventful: Path, tmp_path: Path, key: str, value: Any) -> None:
    run = Path(shutil.copytree(eventful, tmp_path / "run"))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {key: value}))
    with pytest.raises(UserError, match=rf"summary\.json: {key}"):
        check(run)


def test_what_comes_after_the_end_is_found(plain: RunConfig) -> None:
    told = lines(plain.folder)
    assert "train_loss cannot follow run_stop" in faults(plain.folder, [*told, {**told[-1], "key": "train_loss"}])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run directory"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", '{"status": "finished"}'), ("config.yaml", "seed: 0"), ("config.yaml", "phases: [")],
)
def test_another_versions_or_damaged_run_is_refused(name: str, content: str, plain: RunConfig, tmp_path: Path) -> None:
    run = Path(shutil.copytree(plain.folder, tmp_path / "run"))
    (run / name).write_text(content)
    with pytest.raises(UserError, match="damaged or of another version"):
        check(run)


SUBMITTER = {"submission_org": "x", "submission_platform": "x", "submission_division": "open", "cache_clear": True}
SIZES = {"train_samples": 24, "eval_samples": 12}


def test_mlperfs_own_parser_and_rules_take_the_log(eventful: Path, tmp_path: Path) -> None:
    scaling.check([eventful], tmp_path / "log.txt")
    mine = (tmp_path / "log.txt").read_text()
    said = [{"key": key, "value": value, "time_ms": 0, "metadata": {}} for key, value in (SUBMITTER | SIZES).items()]
    (tmp_path / "log.txt").write_text("".join(f":::MLLOG {json.dumps(each)}\n" for each in said) + mine)
    parsed, errors = parse_file(str(tmp_path / "log.txt"), ruleset="5.1.0")
    assert not errors
    assert len(parsed) == len(said) + len(lines(eventful))
    assert [line.value["value"] for line in parsed if line.key == "eval_accuracy"] == [0.1, 0.7]
    judge = ComplianceChecker("training", "5.1.0", quiet=True, werror=True)
    rules = Path(mlp_compliance.__file__).parent / "training_5.1.0" / "common.yaml"
    judge.configured_checks(parsed, rules)
    assert not judge.has_messages(), judge.overwritable
    judge.configured_checks([line for line in parsed if line.key != "run_stop"], rules)
    assert judge.has_messages()


def test_mlperfs_log_is_made_of_one_run_and_replaces_nothing(plain: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for runs, out, said in (
        ([plain.folder], tmp_path / "mine.txt", "exists; remove it"),
        ([plain.folder], tmp_path / "mine.txt" / "log.txt", "cannot be written"),
        ([plain.folder, plain.folder], tmp_path / "log.txt", "takes one run, not 2"),
    ):
        with pytest.raises(UserError, match=said):
            scaling.check(runs, out)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_of_several_runs_the_sound_are_told_and_the_others_refused(
    plain: RunConfig, eventful: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path} is no run directory"):
        scaling.check([plain.folder, tmp_path, eventful])
    assert capsys.readouterr().out.count("sound") == 2
