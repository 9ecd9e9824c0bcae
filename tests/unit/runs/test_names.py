"""Any string may be the name of a class, a run or a file: nothing that shows one dies of it."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from rich.console import Console

from hpcfast.explain import figure, fooling
from hpcfast.report import tables
from hpcfast.runs import progress
from hpcfast.runs.names import in_figure, printable
from hpcfast.scaling import figures

BYTES = os.fsdecode(b"image\xe9")
ODD = [
    "a $x_ b $y^", "$\\frac$", "100%_{x}", "<script>&\"'", "[red]x[/]", "[/oops]", ":smile:", "two\nlines\tand\x1b[31m",
    BYTES, "\u05e9\u05dc\u05d5\u05dd", "evil\u202etxt.exe", "back\\slash$", "", " ", "long" * 100,
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        (BYTES, "image\\xe9"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
    ],
)
def test_what_is_shown_of_a_name(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize("most", range(2, 10))
def test_of_a_long_name_both_ends_are_shown(most: int) -> None:
    shown = printable("digits_l2_seed0_seed1", most)
    assert len(shown) == most
    assert shown[0] == "d" or most == 2
    assert shown[-1] == "1"
    assert printable("short", 5) == "short"


@pytest.mark.parametrize("name", ODD)
def test_pictures_are_drawn_whatever_classes_and_runs_are_called(name: str, tmp_path: Path) -> None:
    x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    fooled = (x.clone(), 1 - y, torch.ones(2))  # nothing was changed: an attack that found no gradient
    fooling.draw(tmp_path / "fooling.png", x, y, [(name, fooled), ("other", fooled)], (name, name + "$"), "L2")
    figure.draw(tmp_path / "explain.png", [(name, dict.fromkeys(("image", "gradient"), x))], [name, name + "$"])
    for file in ("fooling.png", "explain.png"):
        assert min(Image.open(tmp_path / file).size) > 100
    assert len(list(tmp_path.iterdir())) == 2


def test_two_dollars_are_no_formula() -> None:
    text = figures.Figure().text(0, 0, in_figure("a $x$ \\$ b", 99))
    assert text._preprocess_math(text.get_text()) == ("a $x$ \\$ b", False)


@pytest.mark.parametrize("name", ODD)
def test_tables_show_names_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(progress, "Console", _console(out))
    record = SimpleNamespace(name=name, summary=None, evaluations={}, progress="epoch 1 of 2", trained_with="fgsm_rs")
    progress.console(2000).print(tables.results([record]).terminal())  # type: ignore[list-item]
    out.flush()
    shown = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert printable(name) in shown


def _console(out: io.TextIOWrapper) -> object:
    def make(**options: object) -> Console:
        return Console(**{**options, "file": out, "width": 2000})  # type: ignore[arg-type]

    return make
