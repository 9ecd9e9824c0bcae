"""An evaluation that a person has asked for: stopped politely, gone on with, looked over."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data import folder
from hpcfast.evaluate import masking, session
from hpcfast.evaluate.outcomes import Journal
from hpcfast.evaluate.session import Subject, measure
from hpcfast.stop import Stopped
from tests.unit.runs import at_call, die, terminate

Tiny = Callable[..., RunConfig]


@pytest.fixture
def subject(tiny: Tiny, tmp_path: Path) -> Subject:
    config = tiny("evaluation.batch_size=2")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(config.data.channels * config.data.size**2, 3))
    return Subject(config, model, folder.read(config.data.path)[1], tmp_path / "e", ["it is said"])


def test_a_signal_ends_it_and_the_same_call_goes_on(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = measure(subject._replace(folder=subject.folder / "whole"), world)
    with monkeypatch.context() as patch:
        at_call(patch, Journal, "write", 2, terminate)
        with pytest.raises(Stopped, match="the same command goes on"):
            measure(subject, world)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    written = []
    with monkeypatch.context() as patch:
        original = Journal.write
        patch.setattr(Journal, "write", lambda self, record: (written.append(record), original(self, record)))
        resumed, _ = measure(subject, world)
    assert "it is said" in capsys.readouterr().out
    assert 0 < len(written) < 6, "a signal is heeded one batch later"
    for result in (whole, resumed):
        del result["seconds"]
    assert resumed == whole


def test_a_look_that_was_interrupted_is_made_the_next_time(
    subject: Subject, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session.masking, "look", lambda *_: die())
        with pytest.raises(BaseException, match="^$"):
            measure(subject, world)
    result, place = measure(subject, world)
    assert result["masking"] == masking.look(subject.model, subject.split, subject.config, world)
    assert place.read() == result
