"""Readers of what a run and a pack have left."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fuzzing.target import Target, cached, of_file
from hpcfast.cli.evaluate import _attacked
from hpcfast.config import read_run
from hpcfast.data import packed
from hpcfast.data.manifest import MANIFEST
from hpcfast.errors import UserError
from hpcfast.evaluation import cache
from hpcfast.export import card
from hpcfast.models import saved
from hpcfast.report import page, tables
from hpcfast.report import runs as reports
from hpcfast.runs import check
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.reading import read_yaml
from hpcfast.scaling import collect

DRAWN = 40
"""One of so many runs is drawn, which takes a hundred times as long as its tables."""


def of_run(run: Path, folder: Path) -> Iterator[tuple[str, Target]]:
    """Files of a finished run, of which ``folder`` gets a copy."""
    shutil.copytree(run, folder)
    directory = RunDirectory(folder)
    result = next(directory.evaluations.glob("*/result.json"))
    directory.explain.write_text('{"alignment": {"image": {"mean": 0.25, "ci95": [0.1, 0.4], "n": 500}}}')
    config = read_run(directory)
    # Else most of the time would be spent there:
    vars(reports)["read_run"] = cached(read_run, lambda run: run.config)
    vars(check)["read_yaml"] = cached(read_yaml, lambda path: path)

    def report() -> None:
        (record,) = reports.read([directory])
        for each in (tables.results, tables.evaluations, tables.times, tables.environment, tables.timeline):
            each([record]).markdown()
        tables.alignment([record]).terminal()
        assert isinstance(record.warnings, list)  # noqa: S101 - it is made here
        if zlib.crc32(directory.events.read_bytes() + result.read_bytes()) % DRAWN == 0:
            page.render([record])

    def check_log() -> None:
        with suppress(UserError):
            check.check(folder)
        report()

    def summary() -> None:
        with suppress(UserError):
            check.check(folder)
        report()
        found = directory.read_summary() or {}
        collect._measured(found)
        made = {"format": "robustbench", "bytes": 1, "sha256": "", "largest_difference": 0.0}
        card.about(config, ("a",), found, made)
        card.markdown(Path("x"), config, ("a",), found, made)

    def shown() -> None:
        report()
        found = cache._begin(result.parent, keep_images=False, overwrite=False)
        if found and found["masking"]:
            _attacked(found)

    yield "events", of_file("lines", directory.events, check_log)
    yield "run-config", of_file("yaml", directory.config, check_log)
    yield "summary", of_file("json", directory.summary, summary)
    yield "result", of_file("json", result, shown)
    yield "explanation", of_file("json", directory.explain, report)
    yield "model", of_file("json", directory.model, lambda: saved.load(directory, config.model))


def of_pack(pack: Path, folder: Path) -> Iterator[tuple[str, Target]]:
    """Files of a pack, of which ``folder`` gets a copy."""
    shutil.copytree(pack, folder)
    file, name = folder / MANIFEST, "val/shard-000000"
    index, manifest = folder / f"{name}.npy", json.loads(file.read_text())

    def read() -> None:
        list(packed.faults(folder, quick=False))
        for split in packed.read(folder) if packed.is_pack(folder) else ():
            with suppress(OSError):  # what is said of an image that cannot be read
                split.encoded(0)
            split.names()
            split.content()

    def with_index(data: bytes) -> None:
        good = index.read_bytes()
        shard = next(each for each in manifest["shards"] if each["name"] == name)
        changed = shard | {"npy": {"bytes": max(len(data), 1), "sha256": hashlib.sha256(data).hexdigest()}}
        told = [changed if each is shard else each for each in manifest["shards"]]
        file.write_text(json.dumps(manifest | {"shards": told}))
        index.write_bytes(data)
        try:
            read()
        finally:
            index.write_bytes(good)

    yield "index", Target("npy", [index.read_bytes()], with_index)
    yield "manifest", of_file("json", file, read)
