"""Any string for any setting of a configuration: it is refused in one message, or comes out as the very same string."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcfast.cluster import submit
from hpcfast.config import RunConfig, load, parse, schema
from hpcfast.errors import UserError
from hpcfast.report import tables
from tests.unit.hostile import WITH_NUL, some

Tiny = Callable[..., RunConfig]


def settings(shape: Any, known: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of all values that are text, or may be, in a JSON schema."""
    shape = known.get(shape.get("$ref", "").rpartition("/")[2], shape)
    inner = [shape, *shape.get("anyOf", ()), *shape.get("allOf", ())]
    if any(each.get("type") == "string" for each in inner):
        yield place
    for each in inner:
        for name, value in each.get("properties", {}).items():
            yield from settings(value, known, (*place, name))
        if each is not shape:
            yield from settings(each, known, place)


RUN = schema()["run"]
PLACES = sorted({*settings(RUN, RUN["$defs"]), ("attack", "name"), ("model", "options", "x"), ("model", "options")})


def changed(values: dict[str, Any], place: tuple[str, ...], text: str) -> dict[str, Any]:
    first, *rest = place
    inner = changed(values.get(first) or {}, tuple(rest), text) if rest else text
    return {**values, first: inner}


def test_there_are_many() -> None:
    assert {("name",), ("runs",), ("data", "path"), ("data", "stage"), ("data", "skips")} <= {*PLACES}
    assert len(PLACES) > 10


@pytest.mark.parametrize("number", range(len(PLACES)), ids=[".".join(place) for place in PLACES])
def test_it_is_refused_or_kept(number: int, tiny: Tiny, tmp_path: Path) -> None:
    good = tiny().model_dump(mode="json")
    for text in some(number):
        try:
            config = parse(changed(good, PLACES[number], text), [], "it")
        except UserError:
            continue
        assert re.search(r"[\x00-\x1f\u2028]", text) is None, text
        (tmp_path / "again.yaml").write_text(config.dump(), encoding="utf-8")
        assert load(tmp_path / "again.yaml") == config, text
        assert yaml.safe_load(config.dump()) == config.model_dump(mode="json"), text
        assert config.folder.parent == config.runs, text


@pytest.mark.parametrize("text", WITH_NUL)
def test_a_batch_script_has_it_as_one_word(text: str, tiny: Tiny, tmp_path: Path) -> None:
    words = ["train", text, f"data.path={text}"]
    try:
        tiny(f"name={text}", f"data.path={text}")
        script = submit.render("train", {"job-name": text, "comment": text}, words)
    except UserError:
        return
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert shlex.split(script.splitlines()[-1]) == ["job", *words, "$@"]
    header = [shlex.split(line)[1] for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert header.count(f"--comment={text}") == 1
    (tmp_path / "in").mkdir()
    lines = script.splitlines()
    alone = [line for line in lines[:-1] if line.startswith(("#", "export HPCFAST_HOME"))]
    done = subprocess.run(
        ["bash", "-c", "\n".join(['job() { printf "%s\\0" "$@"; }', *alone, lines[-1]])],
        cwd=tmp_path / "in", capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split("\0")[:-1] == words
    assert not list(tmp_path.rglob("X"))


@pytest.mark.parametrize("text", WITH_NUL)
def test_a_table_of_settings_has_it_as_it_is(text: str, tiny: Tiny) -> None:
    class Record:
        name = "it"

    try:
        Record.config = tiny(f"data.path={text}")  # type: ignore[attr-defined]
    except UserError:
        return
    _, every = tables.settings([Record])  # type: ignore[list-item]
    assert ["data.path", str(Record.config.data.path)] in [[*row] for row in every.rows]  # type: ignore[attr-defined]
