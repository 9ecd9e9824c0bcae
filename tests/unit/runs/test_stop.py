"""Signals that ask a run to stop."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpcfast.runs import signals as module
from hpcfast.runs.signals import EXIT_STOPPED, Stopped, StopRequest

ALL = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers are as before after each test, and in it Ctrl-C is heard: nohup and & start tests without it."""
    before = {number: signal.getsignal(number) for number in ALL}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_is_noted_and_nothing_else_happens(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert stop.requested is None
        signal.raise_signal(number)
        assert stop.requested == number.name


def test_a_signal_that_comes_too_early_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_early", [])
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # as a batch script starts us
    before = signal.getsignal(signal.SIGTERM)
    module.note_early()
    assert signal.getsignal(signal.SIGTERM) is before, "what nobody asked to ignore stays as it is"
    signal.raise_signal(signal.SIGUSR2)
    with StopRequest() as stop:
        assert stop.requested == "SIGUSR2"


def test_the_first_signal_is_the_reason() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested == "SIGUSR2"


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_former_handlers_come_back(error: type[BaseException] | None) -> None:
    def former(*_: object) -> None:
        pass

    for number in ALL:
        signal.signal(number, former)
    with suppress(ValueError, KeyboardInterrupt), StopRequest():
        assert all(signal.getsignal(number) is not former for number in ALL)
        if error:
            raise error
    assert all(signal.getsignal(number) is former for number in ALL)


def test_ignored_signals_are_ignored_again_and_only_ctrl_c_meanwhile() -> None:
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested is None, "who starts us in the background wants no Ctrl-C"
        signal.raise_signal(signal.SIGUSR2)
        assert stop.requested == "SIGUSR2", "a batch script ignores it until we can handle it"
    assert all(signal.getsignal(number) is signal.SIG_IGN for number in ALL)


def test_after_a_stop_no_signal_but_ctrl_c_is_heard() -> None:
    with pytest.raises(Stopped), StopRequest():
        raise Stopped
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SCRIPT = """
import atexit, os, signal, sys
from hpcfast.runs.signals import EXIT_STOPPED, Stopped, StopRequest
late = getattr(signal, sys.argv[1])
atexit.register(lambda: os.kill(os.getpid(), late))
try:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR2)
        if stop.requested and sys.argv[2] == "stopped":
            raise Stopped
except Stopped:
    sys.exit(EXIT_STOPPED)
"""


@pytest.mark.parametrize(
    ("late", "how", "code"),
    [
        ("SIGTERM", "stopped", EXIT_STOPPED),
        ("SIGUSR2", "stopped", EXIT_STOPPED),
        ("SIGTERM", "finished", -signal.SIGTERM),
    ],
)
def test_a_signal_at_the_exit_does_not_replace_the_exit_code(late: str, how: str, code: int) -> None:
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", SCRIPT, late, how], cwd=root, timeout=60).returncode == code


def test_it_does_nothing_outside_the_main_thread() -> None:
    before = [signal.getsignal(number) for number in ALL]
    during: list[object] = []

    def run() -> None:
        with StopRequest():
            during.extend(signal.getsignal(number) for number in ALL)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == before
    assert [signal.getsignal(number) for number in ALL] == before


ENDED = """
import os, signal, sys, time
from hpcfast.runs.signals import Interrupted, at_once, note_early
early, resumes = sys.argv[2] == "early", sys.argv[3] == "resumes"
number = getattr(signal, sys.argv[1])
if early:
    signal.signal(number, signal.SIG_IGN)
    note_early()
    os.kill(os.getpid(), number)
try:
    with at_once(), at_once("it stops", resumes):
        if not early:
            os.kill(os.getpid(), number)
        print("went on")
except Interrupted as interrupted:
    os.kill(os.getpid(), signal.SIGTERM)  # as the launcher may, until all is over
    sys.exit(interrupted.code)
"""


@pytest.mark.parametrize(
    ("name", "when", "how", "code", "said"),
    [
        ("SIGTERM", "now", "resumes", EXIT_STOPPED, "SIGTERM: it stops\n"),
        ("SIGUSR2", "now", "resumes", EXIT_STOPPED, "SIGUSR2: it stops\n"),
        ("SIGINT", "now", "resumes", EXIT_STOPPED, "SIGINT: it stops\n"),
        ("SIGTERM", "early", "resumes", EXIT_STOPPED, "SIGTERM: it stops\n"),
        ("SIGTERM", "now", "anew", 143, "SIGTERM: it stops\n"),
        ("SIGUSR2", "now", "anew", 140, "SIGUSR2: it stops\n"),
        ("SIGINT", "now", "anew", 130, "SIGINT: it stops\n"),
        ("SIGTERM", "early", "anew", 0, ""),
    ],
)
def test_what_cannot_wait_says_so_and_ends_where_it_is(name: str, when: str, how: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED, name, when, how], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, said)
    assert ("went on" in done.stdout) == (code == 0)


IMPORTING = """
import sys
from hpcfast.runs.signals import at_once
with at_once("it stops"):
    import slow_to_import
"""


def test_an_import_is_ended_without_an_exception_that_foreign_code_may_meet(tmp_path: Path) -> None:
    """In torch's C++ it would be std::terminate: a dump of the stack, and the code of an abort."""
    (tmp_path / "slow_to_import.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    print('met it')\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "SIGINT: it stops\n")


def test_what_will_be_done_is_said_while_the_main_thread_runs_no_python(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    with StopRequest("it stops soon"):
        saved = os.dup(2)
        os.dup2(writer, 2)
        try:
            helper = subprocess.Popen(["sh", "-c", f"kill -TERM {os.getpid()}"])
            said = os.read(reader, 100)
        finally:
            os.dup2(saved, 2)
            helper.wait()
    assert said == b"SIGTERM: it stops soon\n"
