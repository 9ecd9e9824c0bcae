"""An evaluation that a person has asked for: stopped politely, gone on with, looked over."""

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hpcfast.config import RunConfig
from hpcfast.data.reader import read_splits
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation import corruptions, masking, session
from hpcfast.evaluation.cache import LOOK, RESULT
from hpcfast.evaluation.outcomes import Journal, Record
from hpcfast.evaluation.session import Subject, measure, measure_corruptions
from hpcfast.runs import progress
from hpcfast.runs.signals import Stopped
from tests.unit.whole_runs import Killed, at_call, die, terminate

Tiny = Callable[..., RunConfig]


@pytest.fixture
def subject(tiny: Tiny, tmp_path: Path) -> Subject:
    config = tiny("evaluation.batch_size=2")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(config.data.channels * config.data.size**2, 3))
    return Subject(config, model, read_splits(config.data.path)[1], tmp_path / "e", ["it is said"])


@pytest.mark.parametrize("value", ["[1", "${", "${x}"])
def test_options_of_weights_that_are_no_yaml_are_refused(value: str, tmp_path: Path) -> None:
    given = session.Elsewhere(data=tmp_path, size=8)
    with pytest.raises(UserError, match=rf"--weights w\.pt, .*model\.options\.width={re.escape(value)}: "):
        session.of_weights(Path("w.pt"), given, ["threat.eps=0.01", f"model.options.width={value}"], None)


def test_a_signal_ends_it_and_the_same_call_goes_on(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = measure(subject._replace(folder=subject.folder / "whole"), world)
    with monkeypatch.context() as patch:
        at_call(patch, Journal, "write", 2, terminate)
        with pytest.raises(Stopped, match="the same command resumes"):
            measure(subject, world)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with monkeypatch.context() as patch:
        records = written(patch)
        patch.setattr(masking, "look", lambda *_: {"signs": []})
        resumed, _ = measure(subject, world)
    assert "it is said" in capsys.readouterr().out
    assert 0 < len(records) < 6, "a signal is heeded one batch later"
    for result in (whole, resumed):
        del result["seconds"], result["masking"]
    assert resumed == whole


def all_ids(records: list[Record]) -> set[int]:
    return {image for record in records for image in record.ids}


def written(patch: pytest.MonkeyPatch) -> list[Record]:
    """What journals are told from now on."""
    records: list[Record] = []
    original = Journal.write
    patch.setattr(Journal, "write", lambda self, record: (records.append(record), original(self, record)))
    return records


def test_the_look_takes_no_image_that_was_not_asked_for(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = subject.config
    final = config.evaluation.final.model_copy(update={"images": 5})
    few = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"final": final})})
    records = written(monkeypatch)
    result, _ = measure(subject._replace(config=few), world)
    assert len(result["ids"]) == 5
    assert all_ids(records) == {*result["ids"]}


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_signal_during_the_look_ends_it_and_the_same_call_resumes(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: int
) -> None:
    monkeypatch.setattr(masking, "BATCH", 4)
    whole, _ = measure(subject._replace(folder=subject.folder / "whole"), world)
    with monkeypatch.context() as patch:
        at_call(patch, masking, "attacked", call, terminate)
        with pytest.raises(Stopped, match="of 48 attacks; the same command resumes"):
            measure(subject, world)
    assert "SIGTERM: stopping after this batch; the same command resumes" in capfd.readouterr().err
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with monkeypatch.context() as patch:
        at_call(patch, masking, "attacked", 3, die)
        with pytest.raises(Killed):
            measure(subject, world)
    with monkeypatch.context() as patch:
        records = written(patch)
        resumed, place = measure(subject, world)
    assert {record.round for record in records} == {0}, "only the last of three attacks was left to do"
    for result in (whole, resumed):
        del result["seconds"]
    assert resumed == whole
    assert not (place / LOOK).exists()


def test_the_look_shows_how_far_it_is(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    measure(subject, world)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("look for masked gradients")]
    assert "of 48, left" in lines[0]
    assert "48 attacks" in lines[-1]


def test_a_signal_between_two_corruptions_ends_it_and_the_same_call_resumes(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch, made: Path, tmp_path: Path
) -> None:
    whole = measure_corruptions(subject._replace(folder=tmp_path / "whole"), made, world)
    with monkeypatch.context() as patch:
        at_call(patch, corruptions, "_right", 3, terminate)
        with pytest.raises(Stopped, match="the same command resumes"):
            measure_corruptions(subject, made, world)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parts: list[object] = []
    with monkeypatch.context() as patch:
        original = corruptions._right
        patch.setattr(corruptions, "_right", lambda *arguments: (parts.append(arguments), original(*arguments))[1])
        assert measure_corruptions(subject, made, world) == whole
        assert len(parts) == 4 - 2, "two were done before"
        assert measure_corruptions(subject, made, world) == whole
        assert len(parts) == 2, "all were"
        assert measure_corruptions(subject, made, world, overwrite=True) == whole
        assert len(parts) == 6


def test_corrupted_images_that_were_written_anew_are_measured_anew(
    subject: Subject, world: World, made: Path, tmp_path: Path
) -> None:
    images = Path(shutil.copytree(made, tmp_path / "copy"))
    before = measure_corruptions(subject, images, world)
    for file in (images / "contrast" / "5" / "class0").iterdir():
        Image.new("L", (10, 10)).save(file.with_suffix(".new"), "PNG")
        file.with_suffix(".new").replace(file)
    assert measure_corruptions(subject, images, world) == measure_corruptions(
        subject._replace(folder=tmp_path / "anew"), images, world
    )
    assert measure_corruptions(subject, images, world) != before


def test_a_look_that_was_interrupted_is_made_the_next_time(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session.masking, "look", lambda *_: die())
        with pytest.raises(BaseException, match="^$"):
            measure(subject, world)
    result, place = measure(subject, world)
    ids = np.array(result["ids"])
    assert result["masking"] == masking.look(subject.model, subject.split, ids, subject.config, world)
    assert json.loads((place / RESULT).read_text()) == result
