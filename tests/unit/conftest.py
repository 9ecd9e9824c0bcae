"""What holds for all tests in one process."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpcfast.datasets import workers
from tests import forked
from tests.conftest import RUN


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Compute with one thread, whatever the test before has left.

    No fixture: a session's fixtures are made before those of a test, and what they train must be equal to what the
    tests train.
    """
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _tracer() -> Iterator[None]:
    """pyautoattack's checks end all tracing, coverage's too."""
    before = sys.gettrace()
    yield
    sys.settrace(before)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A run that was stopped leaves signals ignored: its process is about to end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _ready_workers() -> Iterator[None]:
    """Workers of the data commands begin at once; those of commands that tests kill are spawned, as always."""
    ready = SimpleNamespace(get_context=lambda _: forked.prepared(), parent_process=multiprocessing.parent_process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "multiprocessing", ready)
        yield


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, more_images: Path) -> Callable[..., Any]:
    """Call it with overrides to get the configuration of a tiny run in a folder that all tests share."""
    from hpcfast.config import load

    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "tiny.yaml").write_text(RUN)
    return lambda *overrides: load(folder / "tiny.yaml", [f"data.path={more_images}", f"runs={folder}", *overrides])


@pytest.fixture(scope="session")
def plain(elsewhere: Callable[..., Any], world: Any) -> Any:
    """A tiny run that is done, as it comes; don't change its folder."""
    from hpcfast.training import train

    config = elsewhere("name=plain")
    train.train(config, world)
    return config


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A few corruptions of all validation images; don't write into it."""
    from tests.unit.corrupting import few

    out = tmp_path_factory.mktemp("corrupted") / "deep" / "out"
    done: list[int] = []
    few(images, out, progress=done.append)
    assert done == list(range(1, 13))
    return out
