"""Readers of what people give: lists, configurations, studies, weights; and of checkpoints."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuzzing.target import ROOT, Target, of_file
from hpcfast.config import load, parse, read_run
from hpcfast.data import skips
from hpcfast.data.split import HASHES, Split
from hpcfast.datasets import unfinished
from hpcfast.errors import UserError
from hpcfast.evaluation import corruptions
from hpcfast.evaluation.outcomes import Journal, Outcomes
from hpcfast.models import pretrained, saved
from hpcfast.models.pretrained import class_names
from hpcfast.runs import lock
from hpcfast.runs.directory import RunDirectory
from hpcfast.scaling import jobs, study
from hpcfast.training import checkpoint


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
