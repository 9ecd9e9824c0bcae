"""What the trackers' own clients read back, offline: of a run that was killed and resumed, of one that went back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hpcfast.component import find
from hpcfast.config import RunConfig, load
from hpcfast.runs import trackers
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.events import EventLog
from hpcfast.runs.trackers import following
from hpcfast.runs.trackers.following import Followers
from tests import forked
from tests.conftest import RUN
from tests.unit.whole_runs import log

NAMES = ("tensorboard", "wandb", "mlflow")
MORTAL = """\
import itertools, os, signal
from hpcfast import cli
from hpcfast.runs.trackers import following
from hpcfast.training.step import Learner

following.PATIENCE = 200.0  # the machine may be busy

step, calls, last = Learner.step, itertools.count(1), int(os.environ["LAST_CALL"])


def mortal(*args):
    if next(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)


Learner.step = mortal
cli.main()
"""
"""hpcfast, but killed before a step of training."""

Curves = dict[str, list[tuple[int, float]]]


class Read(NamedTuple):
    """What a client found."""

    runs: int
    curves: Curves
    config: Any
    summary: Any


def read_tensorboard(folder: Path) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    texts = {
        tag.partition("/")[0]: tensor_util.make_ndarray(found.Tensors(tag)[-1].tensor_proto).item().decode()
        for tag in found.Tags()["tensors"]
    }
    curves = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return Read(len(list(folder.iterdir())), curves, texts["config"], json.loads(texts.get("summary", "null")))


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: W&B's messages, in a log of LevelDB's format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def read_wandb(folder: Path) -> Read:
    files = list(folder.glob("wandb/offline-run-*/*.wandb"))
    curves: Curves = {}
    config: dict[str, Any] = {}
    summary = None
    for record in wandb_records(files[0]):
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for key, value in row.items():
            if not key.startswith("_"):
                curves.setdefault(key, []).append((row["_step"], value))
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        for item in record.summary.update:
            if item.key == "final":
                summary = json.loads(item.value_json)
    return Read(len(files), curves, config, summary)


def read_mlflow(folder: Path) -> Read:
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient(folder.as_uri())
    experiment = client.get_experiment_by_name("hpcfast")
    assert experiment
    found = client.search_runs([experiment.experiment_id])
    history = {key: client.get_metric_history(found[0].info.run_id, key) for key in found[0].data.metrics}
    curves = {key: [(metric.step, metric.value) for metric in metrics] for key, metrics in history.items()}
    summary = {key.removeprefix("final/"): curves.pop(key)[-1][1] for key in list(curves) if key.startswith("final/")}
    assert found[0].info.status == ("FINISHED" if summary else "KILLED")
    return Read(len(found), curves, found[0].data.params, summary)


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def chosen(name: str, **settings: str) -> Any:
    return find("hpcfast.runs.trackers", name)(name=name, **settings)


def env(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "MLFLOW"))} | more


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, more_images: Path) -> RunConfig:
    """A run that was killed in its third epoch, and then resumed and finished."""
    folder = tmp_path_factory.mktemp("resumed")
    (folder / "tiny.yaml").write_text(RUN)
    (folder / "mortal.py").write_text(MORTAL)
    settings = [f"data.path={more_images}", f"runs={folder}", f"trackers=[{','.join(NAMES)}]"]
    command = [str(folder / "mortal.py"), "train", str(folder / "tiny.yaml"), *settings]
    code, output = forked.run(0, command, folder, env(LAST_CALL="9"), 250)
    assert code == -9, output
    code, output = forked.run(0, command, folder, env(LAST_CALL="0"), 250)
    assert code == 0, output
    assert "going on with" in output
    assert "tracker" not in output, "a warning"
    return load(folder / "tiny.yaml", settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_killed_and_resumed_is_one_run_with_each_step_once(name: str, resumed: RunConfig) -> None:
    found = READERS[name](resumed.folder / "trackers" / name)
    assert found.runs == 1
    steps = [event["step"] for event in log(resumed) if event["key"] == "train_loss"]
    assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 9], "the log has both passes"
    for key in ("train_loss", "learning_rate", "clean_accuracy", "robust_accuracy"):
        recorded = {event["step"]: event["value"] for event in log(resumed) if event["key"] == key}
        assert found.curves[key] == [(step, pytest.approx(value)) for step, value in sorted(recorded.items())], key
    assert found.curves["epoch"] == [(step, pytest.approx(step / 3, abs=1e-5)) for step in range(1, 10)]


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_and_what_it_reached_are_shown(name: str, resumed: RunConfig) -> None:
    found, summary = READERS[name](resumed.folder / "trackers" / name), RunDirectory(resumed.folder).read_summary()
    assert summary
    assert found.summary["robust_accuracy"] == summary["robust_accuracy"]
    assert found.summary["steps"] == 9
    if name == "tensorboard":
        assert "name: cifar_resnet8" in found.config
    elif name == "wandb":
        assert found.config["model"]["name"] == "cifar_resnet8"
    else:
        assert found.config["model.name"] == "cifar_resnet8"
        assert found.config["optim.lr"] == "0.05"


@pytest.fixture
def gone_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with a tracker, for a run of two processes; in the second the guard goes back to step 2."""
    monkeypatch.setattr(following, "PATIENCE", 200.0)
    for key in env().keys() ^ os.environ.keys():
        monkeypatch.delenv(key)

    def follow(tracker: Any) -> Path:
        run, said = RunDirectory(tmp_path), list[str]()
        trackers.require([tracker])
        for steps, value in (((1, 2, 3, 4), 1.0), ((3, 4, 5), 10.0)):
            recorder = EventLog(run.events)
            recorder.write("init_start", step=0, epoch=0)
            with Followers([tracker], run, {"name": "me", "model": {"name": "net"}}, said.append) as followers:
                recorder.listeners.append(followers.tell)
                if value > 1:
                    recorder.write("rollback", step=2, epoch=0.2)
                for step in steps:
                    recorder.write("train_loss", value * step, step=step, epoch=step / 10)
        assert said == []
        return run.trackers / tracker.name

    return follow


@pytest.mark.parametrize("name", NAMES)
def test_what_the_guard_undid_is_not_shown_beside_what_counts(name: str, gone_back: Any) -> None:
    found = READERS[name](gone_back(chosen(name)))
    counts = {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0, 5: 50.0}
    if name == "mlflow":  # which takes nothing back
        counts |= {3: 3.0, 4: 4.0}
    assert found.runs == 1
    assert found.curves["train_loss"] == list(counts.items())
    assert not found.summary


def test_trackio_shows_each_step_once(gone_back: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio is not in the lock: it wants an older Pillow")
    from trackio.sqlite_storage import SQLiteStorage

    gone_back(chosen("wandb", client="trackio", project="mine"))
    (name,) = SQLiteStorage.get_runs("mine")
    rows = [row for row in SQLiteStorage.get_logs("mine", name) if "train_loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert SQLiteStorage.get_run_config("mine", name)["model"] == {"name": "net"}
