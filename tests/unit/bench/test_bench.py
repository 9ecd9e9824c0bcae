"""Benchmarks: what they measure is what is trained; their tables are complete."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import rivals
from hpcfast.bench import loader
from hpcfast.bench.step import STEPS, steps
from hpcfast.cli import app
from hpcfast.data.reader import read_splits
from hpcfast.datasets.generate import Recipe, drawn
from hpcfast.errors import UserError
from tests.unit.loading import CPU, by_id, read, settings


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four photographs, in train and in val."""
    root, recipe = tmp_path_factory.mktemp("photos"), Recipe(8, 2, (400, 300))
    for split in ("train", "val"):
        for i in range(8):
            target = root / split / f"c{i // 4}"
            target.mkdir(parents=True, exist_ok=True)
            drawn(recipe, split, i, i // 4).save(target / f"{i}.jpg", quality=97)
    return root


@pytest.mark.parametrize("rival", [rivals.pil, rivals.decode_jpeg])
def test_rivals_take_the_very_crops_that_we_take(photos: Path, rival: rivals.Reader) -> None:
    split = read_splits(photos)[0]
    ours = by_id(read(settings(photos, 64, augment="resized_crop_flip"), key=5))
    crops = rivals.Crops(split, np.arange(8), 5, 64, rival)
    for i in range(8):
        x, y = crops[i]
        assert y == split.labels[i]
        assert x.shape == ours[i].shape
        assert x.dtype == ours[i].dtype
        mirrored = (x.flip(-1) - ours[i]).abs().mean()
        assert (x - ours[i]).abs().mean() < mirrored / 3, "decoders and filters differ a little, windows do not"


def test_the_loader_command_measures_threads_and_names_the_best(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    words = ["bench", "loader", photos, "--size", "32", "--images", "8", "--batch", "4", "--rounds", "1"]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--json", out]])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert f"best here: data.threads={report['best']['threads']}" in done.output
    assert report["best"] in report["rows"]
    assert {1, report["cores"]} <= {row["threads"] for row in report["rows"]}
    for row in report["rows"]:
        assert row["loader"] == "hpcfast"
        assert row["images_per_second"] > 0
        assert 0 < row["spread"][0] <= row["images_per_core_second"] <= row["spread"][1]


def test_the_best_number_of_threads_is_the_least_of_the_fastest() -> None:
    rows: list[dict[str, Any]] = [
        {"threads": threads, "images_per_second": speed} for threads, speed in ((1, 500.0), (2, 990.0), (4, 1000.0))
    ]
    assert loader.best(rows) is rows[1]


def test_data_without_files_is_refused() -> None:
    with pytest.raises(UserError, match="synthetic:10x2 has nothing to decode"):
        loader.measure(Path("synthetic:10x2"), 32, 8, 4, 1, CPU)


def test_steps_are_timed_and_counted_relative_to_the_first(world: Any) -> None:
    rows = steps("cifar_resnet8", {"width": 2}, 8, 2, 2, world)
    assert [(row["method"], row["precision"], row["memory_format"]) for row in rows] == list(STEPS)
    assert rows[0]["relative_to_standard"] == rows[0]["relative_flops"] == 1
    flops = {row["method"]: row["relative_flops"] for row in rows}
    assert 1 < flops["fgsm_rs"] < flops["pgd-7"]
    assert all(row["seconds"] > 0 and torch.tensor(row["spread"]).isfinite().all() for row in rows)


@pytest.mark.parametrize(
    ("name", "shown"), [("resnet5O", "resnet50"), ("RESNET50", "did you mean 'resnet50'"), ("?", "aimv2")]
)
def test_a_network_that_nobody_knows_is_one_message(name: str, shown: str) -> None:
    with pytest.raises(UserError, match=f"--model {re.escape(name)}: '{re.escape(name)}' is not one of: .*{shown}"):
        CliRunner().invoke(app, ["bench", "step", "--model", name], catch_exceptions=False)
