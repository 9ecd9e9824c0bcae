"""What a person sees while it runs: one bar on a terminal, plain lines in a batch log; rank 0 only."""

import sys
import time
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import Task as ProgressTask
from rich.table import Column, Table
from rich.text import Text

from hpcfast.distributed import launcher, lines
from hpcfast.runs.names import in_lines, printable

LINE_EVERY = 5.0
"""Least seconds between two plain lines of one task."""


def console(width: int) -> Console:
    """Prints tables: ``width`` characters wide where no terminal says how wide it is, and [red] as it stands there."""
    return Console(width=None if Console().is_terminal else width, markup=False, emoji=False, highlight=False)


def table(
    headings: Iterable[str], rows: Iterable[Sequence[RenderableType]], caption: str | None = None, left: int = 1
) -> Table:
    """``rows`` under ``headings``; all but the first ``left`` columns are numbers, aligned on the right."""
    columns = [Column(heading, justify="left" if i < left else "right") for i, heading in enumerate(headings)]
    grid = Table(*columns, caption=caption, caption_justify="left")
    for row in rows:
        grid.add_row(*row)
    return grid


class _Shortened(TextColumn):
    """A text that gives way where a line is too short for everything."""

    def render(self, task: ProgressTask) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class Reporter:
    """Shows how far each task is, its rate and the time left. Does nothing unless ``visible``."""

    def __init__(self, visible: bool) -> None:
        self._visible = visible
        # mpirun gives its ranks a terminal of their own and puts a label before every line: no place for a bar.
        drawn = visible and sys.stdout.isatty() and launcher.rank() is None
        name, note = (
            _Shortened(text, markup=False, table_column=Column())
            for text in ("{task.description}", "{task.fields[note]}")
        )
        whole = Column(no_wrap=True)  # and so is narrowed last
        count, left = MofNCompleteColumn(table_column=whole), TimeRemainingColumn(table_column=whole)
        self._bar = Progress(name, BarColumn(), count, left, note, disable=not drawn)

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Show a line that stays."""
        text = in_lines(text)
        if not self._bar.disable:
            self._bar.console.print(text, highlight=False, markup=False)
        elif self._visible:
            lines.write(text, sys.stdout)

    def task(self, name: str, total: int | None, unit: str, done: int = 0) -> "Task":
        """Begin a task of ``total`` units (None: unknown), of which ``done`` were done in an earlier run."""
        return Task(self, printable(name), total, unit, done)


class Task:
    """One piece of long work; ``update`` as often as you like."""

    def __init__(self, reporter: Reporter, name: str, total: int | None, unit: str, done: int) -> None:
        self._reporter, self._name, self._total, self.unit, self._first = reporter, name, total, unit, done
        self._started = self._printed = time.perf_counter()
        self._id = reporter._bar.add_task(name, total=total, completed=done, note="")

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the units are done; ``note`` is shown beside it."""
        if not self._reporter._visible:
            return
        now = time.perf_counter()
        rate = (done - self._first) / max(now - self._started, 1e-9)
        note = f"{rate:,.0f} {self.unit}/s  {note}"
        if not self._reporter._bar.disable:
            self._reporter._bar.update(self._id, completed=done, note=note)
        elif now - self._printed >= LINE_EVERY:
            self._printed = now
            if self._total is not None:
                left = max(0, round((self._total - done) / rate)) if rate else 0
                note += f"  of {self._total:,}, left {left // 3600:02}:{left // 60 % 60:02}:{left % 60:02}"
            lines.write(f"{self._name}  {done:,} {self.unit}  {note}", sys.stdout)

    def close(self) -> None:
        """Take the bar away."""
        self._reporter._bar.remove_task(self._id)
