"""JSON and YAML that is damaged is a ValueError, whatever it makes the parsers of others raise."""

from pathlib import Path

import pytest
import yaml

from hpcfast.runs.reading import loads, read_json, read_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, b"\xff\xfe", "\0"])
def test_json_that_is_none(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="."):
        loads(text)


def test_json_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="decode"):
        read_json(tmp_path / "a.json")


ODD = ["a: [", "[" * 2000, "a: !!bool x", "!!timestamp x", "2001-99-99", "a: &a [*a]", BOMB, "*a", "a: !!int x", "\0"]


@pytest.mark.parametrize("text", ODD, ids=[text[:20] for text in ODD])
def test_yaml_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match="."):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["", "a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n", "- 1\n- x\n"])
def test_other_yaml_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load(text)
