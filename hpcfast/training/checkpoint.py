"""Checkpoints on disk: written atomically, checked and read without executing code.

A run may be killed between any two system calls. Therefore a checkpoint's file never changes once it is there (a
step that is saved again gets a new name, ``step-00001234-2.pt``), its checksum is there before it, and the one write
that makes it count is the last: that of ``LAST``. What a kill leaves lying about, the next save removes.
"""

import hashlib
import io
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from hpcfast.config import CheckpointSettings
from hpcfast.distributed import comm
from hpcfast.errors import FULL, UserError
from hpcfast.runs.failures import History
from hpcfast.runs.files import PART, note_saved, save_text, write_atomically

FORMAT = 1
LAST = "LAST"
HEALTHY = "HEALTHY"
_NAME = re.compile(r"step-(\d{8,15})(?:-(\d{1,9}))?\.pt", re.ASCII)
State = dict[str, Any]
T = TypeVar("T")


class Store:
    """The checkpoints of a run: rank 0 reads and writes; every method but ``due`` is a collective.

    ``asynchronous`` ones are written in a thread: the next call raises its errors, the end of a block waits.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointSettings,
        say: Callable[[str], None],
        past: History | None = None,
    ) -> None:
        """``past`` is for ``minutes: auto``."""
        self._folder, self._settings, self._say, self.past = folder, settings, say, past or History()
        self._thread = ThreadPoolExecutor(1) if settings.asynchronous else None
        self._pending: Future[None] | None = None
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for one, by this rank's clock; never where the interval is 0."""
        minutes = self._settings.minutes
        interval = self.past.interval if minutes == "auto" else 60 * minutes
        return 0 < interval < time.monotonic() - self._saved

    def load_last(self) -> tuple[State | None, bool]:
        return self._on_root(lambda folder: (load_last(folder, self._say), is_healthy(folder)))

    def load_healthy(self) -> State:
        state = self._on_root(load_healthy)
        if state is None:  # a run saves its first before it trains
            raise UserError(f"{self._folder} has lost its first checkpoint; start over with --overwrite")
        return state

    def save(self, step: int, state: Callable[[], State]) -> None:
        """Save what ``state`` returns on rank 0; then its tensors may change. A full disk ends all ranks."""

        def begin(folder: Path) -> None:
            arguments = folder, step, serialise(state()), self._settings.keep
            if self._thread:
                self._pending = self._thread.submit(write, *arguments)
            else:
                write(*arguments)

        began = time.monotonic()
        self._on_root(begin)
        self._saved = time.monotonic()
        self.past.checkpoints.append(self._saved - began)

    def mark_healthy(self) -> None:
        self._on_root(mark_healthy)

    def wait(self) -> None:
        """Return when all is on disk; a full disk ends all ranks."""
        self._on_root(lambda folder: None)

    def _on_root(self, work: Callable[[Path], T]) -> T:
        """What ``work`` returns on rank 0, after the write in flight: two would take the memory of two."""

        def wait_and_work() -> T:
            self._finish()
            return work(self._folder)

        return comm.on_root(wait_and_work)

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()  # its error comes before one of the block: "stopped, with a good checkpoint" would be a lie


def serialise(state: State) -> memoryview:
    """``state`` as a file's bytes: a copy, of a known size; and torch, writing itself, would hide why a disk fails."""
    buffer = io.BytesIO()
    torch.save({**state, "format": FORMAT}, buffer)
    return buffer.getbuffer()


def write(folder: Path, step: int, data: memoryview, keep: int) -> None:
    """Write ``data`` as ``step-00001234.pt``, with its SHA-256 beside it, and name it in ``LAST``.

    Then others of this step and later ones are deleted (a training that was rolled back saves an old step again), and
    all but the ``keep`` newest. What ``HEALTHY`` names stays.

    Raises:
        UserError: the disk is full; the checkpoint before is as good as it was.
    """
    path = folder / f"step-{step:08d}.pt"
    try:
        folder.mkdir(exist_ok=True)
        _clean(folder, keep)  # what a kill has left, before there is a newer LAST to compare with
        again = [_age(path)[1] for path in _checkpoints(folder) if _age(path)[0] == step]
        path = folder / f"step-{step:08d}-{max(again) + 1}.pt" if again else path
        save_text(Path(f"{path}.sha256"), f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
        write_atomically(path, lambda part: part.write_bytes(data))
        save_text(folder / LAST, path.name)
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder.parent).free
        raise UserError(
            f"{error.strerror}: {path} needs {data.nbytes:,} bytes, {free:,} are free. "
            f"Make room and give the same command again: it goes on from the checkpoint before"
        ) from None
    note_saved()
    _clean(folder, keep)


def load_last(folder: Path, say: Callable[[str], None] = print) -> State | None:
    """Return the state that ``LAST`` names, on the CPU, or None where nothing was saved yet.

    If that checkpoint is unusable, the next older good one is taken instead and named in ``LAST``; ``say`` is told.

    Raises:
        UserError: there are checkpoints, and none is usable.
    """
    last = _named(folder, LAST)
    paths = [path for path in _checkpoints(folder) if last is None or _age(path) <= _age(last)]
    faults = [f"checkpoint {last} cannot be read (missing)"] if last and last not in paths else []
    for path in reversed(paths):
        state = _read(path)
        if isinstance(state, str):
            faults.append(f"checkpoint {path} cannot be read ({state})")
            continue
        for fault in faults:
            say(f"{fault}; going on with {path.name} instead")
        if path != last:  # what is saved and marked from here on follows this one
            save_text(folder / LAST, path.name)
        return state
    if faults:
        raise UserError("no checkpoint is left to go on from; start over with --overwrite\n" + "\n".join(faults))
    return None


def mark_healthy(folder: Path) -> None:
    """Note that the checkpoint in ``LAST`` has passed the checks of its epoch."""
    save_text(folder / HEALTHY, (folder / LAST).read_text())


def is_healthy(folder: Path) -> bool:
    """Whether the checkpoint in ``LAST`` has passed the checks of its epoch."""
    healthy = _named(folder, HEALTHY)
    return healthy is not None and healthy == _named(folder, LAST)


def load_healthy(folder: Path) -> State | None:
    """Return what ``HEALTHY`` names, on the CPU, or None where it names nothing; a UserError if it is unusable."""
    healthy = _named(folder, HEALTHY)
    state = _read(healthy) if healthy else None
    if isinstance(state, str):
        raise UserError(f"cannot go back to checkpoint {healthy} ({state}); start over with --overwrite")
    return state


def _clean(folder: Path, keep: int) -> None:
    """Delete what nothing will be loaded from, and unfinished files."""
    last = _named(folder, LAST)
    if last is None:
        return
    older = [path for path in _checkpoints(folder) if _age(path)[0] < _age(last)[0]]
    kept = {last, _named(folder, HEALTHY), *older[max(len(older) + 1 - keep, 0) :]}
    for file in sorted(folder.iterdir()):  # sorted: a checkpoint goes before its checksum
        name = file.name.removesuffix(".sha256")
        if file.name.endswith(PART) or (_NAME.fullmatch(name) and folder / name not in kept):
            file.unlink(missing_ok=True)


def _read(path: Path) -> State | str:
    """The state in a file, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if Path(f"{path}.sha256").read_bytes().split()[:1] != [digest.encode()]:
                return "damaged: it does not match its checksum"
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - what foreign bytes make torch raise is anybody's guess
        return f"{type(error).__name__}: foreign, or more than weights"
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"foreign: it does not say 'format: {FORMAT}'"
    return state


def _named(folder: Path, pointer: str) -> Path | None:
    """The checkpoint that the file ``pointer`` names; None where it is missing or names none."""
    file = folder / pointer
    name = file.read_bytes().decode(errors="replace").strip() if file.is_file() else ""
    return folder / name if _NAME.fullmatch(name) else None


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted((path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name)), key=_age)


def _age(path: Path) -> tuple[int, int]:
    """The step, and which save of this step it is (from 1)."""
    step, again = _NAME.fullmatch(path.name).groups("1")  # type: ignore[union-attr]  # only such names come here
    return int(step), int(again)
