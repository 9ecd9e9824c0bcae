"""What is done and what is said, with the time: a folder of JSON lines."""

import json
import threading
import time
from pathlib import Path
from typing import Any, Self


class Record:
    """Writes ``acts.jsonl``, and ``said.jsonl``: each line of the jobs' logs in ``logs``, when it came."""

    def __init__(self, folder: Path, logs: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self._logs = folder, logs
        self._read: dict[Path, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def note(self, kind: str, text: str, **more: Any) -> None:
        """Write down what somebody does now."""
        self._write("acts.jsonl", {"time": time.time(), "kind": kind, "text": text, **more})
        print(time.strftime("%T"), kind, text, *more.values(), flush=True)

    def _write(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _listen(self) -> None:
        while not self._ended.wait(0.1):
            self._hear()
        self._hear()

    def _hear(self) -> None:
        for log in sorted(self._logs.glob("train-*.log")):
            with log.open("rb") as file:
                file.seek(self._read.get(log, 0))
                text = file.read().rpartition(b"\n")[0]
            self._read[log] = self._read.get(log, 0) + (len(text) + 1 if text else 0)
            for line in text.decode(errors="replace").splitlines():
                self._write("said.jsonl", {"time": time.time(), "log": log.name, "line": line})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a record."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
