"""Kill a training before each system call that writes a checkpoint, a result or the summary: all calls, a run for each.

``python campaigns/kill_writes.py``; exits with 1 if a run does not go on to the very weights of one that nothing
interrupted, if what LAST names cannot be loaded at once, or if half a file is taken for a whole one.
"""

import argparse
import gc
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork

import pyautoattack.autopgd_base  # noqa: F401 - imported once, here, and not by every run

import hpcfast.training.train  # noqa: F401 - likewise
import kill_jobs
import kill_runs
import system_calls
from hpcfast import cli
from hpcfast.errors import UserError
from hpcfast.evaluation import cache
from hpcfast.models import saved
from hpcfast.runs.check import check
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import checkpoint

LIMIT = 120.0
OVERRIDES = ["epochs=2", "guard.every=0", "checkpoint.minutes=0"]


class Window(NamedTuple):
    """Calls that are counted: those of the ``call``-th call of a function, or from then on to the process's end."""

    module: ModuleType
    function: str
    call: int
    to_the_end: bool = False


WINDOWS = {
    "the first checkpoint": Window(checkpoint, "write", 1),
    "its mark": Window(checkpoint, "mark_healthy", 1),
    "a later checkpoint, an old one deleted": Window(checkpoint, "write", 3),
    "a later mark": Window(checkpoint, "mark_healthy", 2),
    "an evaluation's result": Window(cache, "write", 1),
    "weights, model.json and summary.json, and the end": Window(saved, "write", 1, to_the_end=True),
}


class Campaign:
    """All windows, all calls in each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wrong = folder, list[str]()
        self.kills: Counter[str] = Counter()
        kill_runs.write_data(folder)
        self.resume("whole")
        self.expected = self.outcome("whole")

    def command(self, name: str) -> list[str]:
        return ["train", str(self.folder / "tiny.yaml"), f"name={name}", *OVERRIDES]

    def resume(self, name: str) -> None:
        log = self.folder / f"{name}.log"
        codes, hung = kill_jobs.Forked(1, self.command(name), log).end(LIMIT)
        if any(codes) or hung:
            raise RuntimeError(f"{name}: exit codes {codes}, hung: {hung}\n{log.read_text()[-3000:]}")

    def outcome(self, name: str) -> dict[str, Any]:
        run = self.folder / "runs" / name
        summary = json.loads((run / "summary.json").read_text())
        accuracies = {key: summary[key] for key in ("clean_accuracy", "robust_accuracy", "epochs")}
        return {"weights": (run / "model.safetensors").read_bytes(), **accuracies}

    def train(self, name: str, window: Window, switch: Callable[[], None]) -> None:
        """Be the process that is killed."""
        out = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        original, calls = getattr(window.module, window.function), itertools.count(1)

        def watched(*arguments: Any, **named: Any) -> Any:
            if next(calls) != window.call:
                return original(*arguments, **named)
            switch()
            try:
                return original(*arguments, **named)
            finally:
                if not window.to_the_end:
                    switch()

        setattr(window.module, window.function, watched)
        sys.argv = ["hpcfast", *self.command(name)]
        cli.main()

    def kill(self, what: str, call: int) -> bool:
        """Kill a run before this call of a window, let it finish, and compare; whether there was such a call."""
        name, window = f"run-{what}-{call}".replace(" ", "-"), WINDOWS[what]
        if not system_calls.killed_at(call, lambda switch: self.train(name, window, switch)):
            return False
        self.kills[what] += 1
        wrong = self.left(RunDirectory(self.folder / "runs" / name))
        self.resume(name)
        wrong += [f"other {key}" for key, value in self.outcome(name).items() if value != self.expected[key]]
        run = self.folder / "runs" / name
        try:
            check(run)
        except UserError as error:
            wrong.append(f"log: {error}")
        wrong += [f"{part} was left" for part in run.rglob("*.part")]
        self.wrong += [f"{what}, call {call}: {fault}" for fault in wrong]
        shutil.rmtree(run)
        return True

    def left(self, run: RunDirectory) -> list[str]:
        """What is wrong with the files that a kill has left."""
        wrong: list[str] = []
        try:
            checkpoint.load_last(run.checkpoints, wrong.append)
            run.read_summary()
            for file in run.path.rglob("*.json"):
                json.loads(file.read_text())
            if run.weights.exists():
                saved.load_weights(run.weights)
        except (UserError, ValueError) as error:
            wrong.append(str(error))
        return wrong


def main() -> int:
    """Run the campaign; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=WINDOWS, help="one kind of write")
    chosen = [options.only] if (options := parser.parse_args()).only else list(WINDOWS)
    gc.freeze()  # forked runs share what was imported
    with tempfile.TemporaryDirectory(prefix="kill-writes-") as folder:
        campaign = Campaign(Path(folder))
        for what in chosen:
            for call in itertools.count(1):
                if not campaign.kill(what, call):
                    break
            print(f"{campaign.kills[what]:4} kills: {what}; {len(campaign.wrong)} wrong", flush=True)
    print(
        f"{campaign.kills.total()} kills, one before each call; {len(campaign.wrong)} wrong", *campaign.wrong, sep="\n"
    )
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
