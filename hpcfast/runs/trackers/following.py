"""Trackers follow a run's log, each in a thread of its own: training never waits for one, and none can stop it."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any

from hpcfast.runs import events
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.trackers import About, Point, Sink, Tracker, numbers

Event = dict[str, Any]

PATIENCE = 10.0
"""Seconds that trackers have at the end for what is left: a job that was told to stop may be killed soon."""


class History:
    """Of a run's log, the points that count: what was undone, by a kill or by the guard, is not among them."""

    def __init__(self, past: Sequence[Event]) -> None:
        self._points: dict[tuple[str, int], Point] = {}
        for event in past:
            self.add(event)

    @property
    def points(self) -> list[Point]:
        return list(self._points.values())

    def add(self, event: Event) -> list[Point]:
        """Take an event in; returns the points that it adds, none of a step that is trained a second time."""
        if event["key"] in ("init_stop", "rollback"):  # the run is at that step again
            self._points = {at: point for at, point in self._points.items() if point.step <= event["step"]}
        new = {(point.key, point.step): point for point in _points(event)}
        new = {at: point for at, point in new.items() if at not in self._points}
        self._points |= new
        return list(new.values())


def _points(event: Event) -> Iterator[Point]:
    """The numbers that an event records, and the epoch that they belong to."""
    key, value = event["key"], event["value"]
    found = numbers({key: value}) if key == "guard" or not isinstance(value, dict) else {}
    found = {name: number for name, number in found.items() if math.isfinite(number)}
    for name, number in (found | {"epoch": event["epoch"]} if found else {}).items():
        yield Point(name, number, event["step"], event["time"])


class Followers:
    """The trackers of a run; a context, at whose end they are closed. Make it when the run has begun.

    Args:
        say: shows a line to people; called from other threads.
    """

    def __init__(
        self, trackers: Sequence[Tracker], run: RunDirectory, config: dict[str, Any], say: Callable[[str], None]
    ) -> None:
        past = events.read(run.events) if trackers else []
        first = repr(past[0]["time"]) if past else ""
        identity = hashlib.sha256(f"{config['name']} {first}".encode()).hexdigest()[:16]
        self._followers = [
            _Follower(tracker, About(identity, config["name"], run.trackers / tracker.name, config), past, say)
            for tracker in trackers
        ]

    def tell(self, event: Event) -> None:
        """Pass on a new event of the log."""
        for follower in self._followers:
            follower.queue.put(event)

    def finish(self, summary: dict[str, Any]) -> None:
        """Pass on what the run has reached."""
        for follower in self._followers:
            follower.summary = summary

    def __enter__(self) -> "Followers":
        return self

    def __exit__(self, *_: object) -> None:
        for follower in self._followers:
            follower.queue.put(None)
        until = time.monotonic() + PATIENCE
        for follower in self._followers:
            follower.wait(until - time.monotonic())


class _Follower:
    """One tracker, and the thread that tells it."""

    def __init__(self, tracker: Tracker, run: About, past: Sequence[Event], say: Callable[[str], None]) -> None:
        self.queue: SimpleQueue[Event | None] = SimpleQueue()
        self.summary: dict[str, Any] | None = None
        self._tracker, self._run, self._history, self._say = tracker, run, History(past), say
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = Thread(target=self._follow, name=f"tracker {tracker.name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._warn("gives no answer; the run ends without it")

    def _warn(self, what: str) -> None:
        say, self._say = self._say, lambda text: None  # once
        say(f"tracker {self._tracker.name}: {what}")

    def _follow(self) -> None:
        try:
            sink = self._open()
            for batch in self._batches():
                sink = self._pass_on(batch, sink)
            sink.end(self.summary)
        except Exception as error:  # noqa: BLE001 - whatever its library or the network raises, training goes on
            said = (str(error) or repr(error)).strip().partition("\n")[0]
            self._warn(f"{said}; the run goes on without it")

    def _open(self) -> Sink:
        sink = self._tracker.open(self._run)
        sink.log(self._history.points)
        return sink

    def _pass_on(self, batch: list[Event], sink: Sink) -> Sink:
        new = [point for event in batch for point in self._history.add(event)]
        if any(event["key"] == "rollback" for event in batch):
            sink.end(None)
            return self._open()
        if new:
            sink.log(new)
        return sink

    def _batches(self) -> Iterator[list[Event]]:
        """What has come since the last time, as soon as something has: a slow tracker gets much at a time."""
        ended = False
        while not ended:
            batch = [self.queue.get()]
            while not self.queue.empty():
                batch.append(self.queue.get())
            ended = batch[-1] is None
            yield [event for event in batch if event is not None]
