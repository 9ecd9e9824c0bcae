"""Readers of files that somebody may have damaged, each with files that hpcfast itself wrote."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpcfast.cli.evaluate import _attacked
from hpcfast.config import load, parse, read_run
from hpcfast.data import packed, skips
from hpcfast.data.manifest import MANIFEST
from hpcfast.data.split import HASHES, Split
from hpcfast.datasets import unfinished
from hpcfast.errors import UserError
from hpcfast.evaluation import cache, corruptions
from hpcfast.evaluation.outcomes import Journal, Outcomes
from hpcfast.export import card
from hpcfast.models import pretrained, saved
from hpcfast.models.pretrained import class_names
from hpcfast.report import page, tables
from hpcfast.report import runs as reports
from hpcfast.runs import check, lock
from hpcfast.runs.directory import RunDirectory
from hpcfast.runs.reading import read_yaml
from hpcfast.scaling import collect, jobs, study
from hpcfast.training import checkpoint

DRAWN = 40
"""One of so many runs is drawn, which takes a hundred times as long as its tables."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """``read`` writes bytes to a file and reads that as hpcfast does; it may raise nothing but ``clear`` errors."""

    kind: str
    """Of :data:`fuzzing.mutations.KINDS`."""
    seeds: list[bytes]
    read: Callable[[bytes], object]
    clear: tuple[type[Exception], ...] = (UserError,)


def of_file(kind: str, file: Path, read: Callable[[], object], *more: bytes) -> Target:
    """A target whose one seed is what is in ``file`` now."""

    def again(data: bytes) -> None:
        file.write_bytes(data)
        try:
            read()
        finally:
            file.write_bytes(good)

    good = file.read_bytes()
    return Target(kind, [good, *more], again)


def cached(read: Callable[[Any], Any], file: Callable[[Any], Path]) -> Callable[[Any], Any]:
    """The same, quicker where the file is as it was."""
    known: dict[bytes, Any] = {}

    def reading(of: Any) -> Any:
        text = file(of).read_bytes()
        if text not in known:
            found = read(of)
            known.clear()
            known[text] = found
        return known[text]

    return reading


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


def of_lists(folder: Path) -> Iterator[tuple[str, Target]]:
    """Small files: lists of images and classes, journals, hashes, manifests of folders, locks."""
    folder.mkdir()
    split = Split(folder / "val", [f"{folder}/val/a/{i}.png" for i in range(4)], np.array([0, 0, 1, 1]), ("a", "b"))

    def file(name: str, content: str) -> Path:
        (folder / name).write_text(content)
        return folder / name

    listed = file("skips.txt", "# bad\nval/a/1.png\tempty\ntrain/b/2.png\tdamaged\n")
    yield "skips", of_file("text", listed, lambda: skips.text(skips.without(split, skips.read(listed))))
    names = file("classes.txt", "a\nb\n")
    yield "classes", of_file("text", names, lambda: class_names.find(folder, 2, None, names, ["a", "b"]))
    known = file(HASHES, json.dumps({"val": {"content": "0", "files": split.stamp()}}))
    yield "hashes", of_file("json", known, split.content)
    journal = file("progress-0.jsonl", "\n[0, [0, 1], [0, 0], [0, 1]]\n[1, [2], [1], [0]]")
    read = Journal(folder, 0).read
    yield "journal", of_file("lines", journal, lambda: Outcomes(split, np.arange(4), []).note(read()))
    parts = file("parts.json", '{"contrast 1 0f": [3, 12], "contrast 5 0f": [1, 12]}')
    yield "parts", of_file("json", parts, lambda: corruptions._kept(parts))
    about = {"name": "digits"}
    (folder / "out").mkdir()
    made = file("out/dataset.json", json.dumps(about))
    yield "folder", of_file("json", made, lambda: unfinished.fill(made.parent, made.name, about, "it", lambda _: None))
    mine = file(".lock-0", json.dumps(lock._Holder.here()._replace(pid=0)._asdict()))

    def held() -> None:
        lock._refuse_living(folder, mine, "is in use")

    yield "lock", of_file("json", mine, held)


def of_settings(folder: Path) -> Iterator[tuple[str, Target]]:
    """Configurations, their overrides, and studies."""
    folder.mkdir()
    for config in (ROOT / "configs").glob("*.yaml"):
        shutil.copy(config, folder)
    (folder / "run.yaml").touch()
    names = ("digits_l2.yaml", "cifar10_linf.yaml", "imagenet_l2.yaml")
    seeds = [(ROOT / "configs" / name).read_bytes() for name in names if (ROOT / "configs" / name).is_file()]

    def written(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        def read_it(data: bytes) -> None:
            (folder / name).write_bytes(data)
            read(folder / name)

        return read_it

    yield "config", Target("yaml", seeds, written("fuzzed.yaml", lambda file: load(file).dump()))
    values = json.loads(json.dumps(load(folder / names[0]).model_dump(mode="json")))

    def words(data: bytes) -> None:
        parse(values, data.decode(errors="replace").split("\n"), "fuzzed").dump()

    yield "words", Target("text", [b"epochs=3\nattack.name=pgd\nthreat.eps=8/255", b"model.options={a: [1, x]}"], words)
    studies = [file.read_text() for file in sorted((ROOT / "configs" / "studies").glob("*.yaml"))[:2]]
    given = [each.replace("configs/", f"{ROOT}/configs/").encode() for each in studies]
    yield "study", Target("yaml", given, written("study.yaml", lambda file: [*map(str, jobs.jobs(study.load(file)))]))


def of_weights(run: Path, folder: Path) -> Iterator[tuple[str, Target]]:
    """Weights of others, checkpoints, and what points to these."""
    folder.mkdir()
    file, options = folder / "weights", read_run(RunDirectory(run)).model.options
    weights = saved.load_weights(run / "model.safetensors")
    seeds = [(run / "model.safetensors").read_bytes()]
    for content in (weights, {"state_dict": weights, "epoch": 3, "ema": dict(weights)}):
        torch.save(content, file)
        seeds.append(file.read_bytes())
    torch.save(weights, file, _use_new_zipfile_serialization=False)
    seeds.append(file.read_bytes())

    def foreign(data: bytes) -> None:
        file.write_bytes(data)
        pretrained.load(file, "cifar_resnet8", (0.5,), (0.25,), options)

    yield "weights", Target("weights", seeds, foreign)
    place = folder / "checkpoints"
    state: dict[str, Any] = {"w": torch.zeros(9), "step": 1}

    def points(data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        for step in (1, 2):
            checkpoint.write(place, step, checkpoint.serialise(state), 2)
        for name, content in zip(("LAST", "HEALTHY", "step-00000002.pt.sha256"), data.split(b"|"), strict=False):
            (place / name).write_bytes(content)
        checkpoint.is_healthy(place)
        for read in (checkpoint.load_healthy, lambda folder: checkpoint.load_last(folder, lambda _: None)):
            with suppress(UserError):
                read(place)
        checkpoint.write(place, 3, checkpoint.serialise(state), 2)

    yield "pointers", Target("text", [b"step-00000002.pt|step-00000001.pt|0 x", b"step-00000002-2.pt"], points)

    def load_state(data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        checkpoint.write(place, 1, memoryview(data), 2)
        checkpoint.load_last(place, lambda _: None)

    yield "checkpoint", Target("weights", [bytes(checkpoint.serialise(state))], load_state)


def every(folder: Path, run: Path, pack: Path) -> dict[str, Target]:
    """All targets; what they write is in ``folder``."""
    return {
        **dict(of_run(run, folder / "run")),
        **dict(of_pack(pack, folder / "pack")),
        **dict(of_lists(folder / "lists")),
        **dict(of_settings(folder / "settings")),
        **dict(of_weights(run, folder / "weights")),
    }
