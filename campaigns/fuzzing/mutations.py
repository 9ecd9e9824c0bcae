"""Damage to files that leaves their form, so that it gets behind the parser of JSON, YAML or zip."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

ODD: list[Any] = [
    None, True, -1, 0, 3, 2**63, 10**400, 0.5, 1e308, -1e308, float("nan"), float("inf"), "", "x", "\0", "a" * 4000,
    "../..", "${x}", "step-00000001.pt", "\udc80", "<b>", [], {}, [[]], [0, 1], {"a": {}}, {"name": "pgd"},
]  # fmt: skip
WORDS = (
    "!!bool x", "!!int x", "!!timestamp x", "!!float x", "!!python/none", "&a [*a]", "*a", "<<: ", "? ", "${", "${a:",
    "[" * 500, "{a: " * 300, "\0", "\t", "- ", "1e400", "8/0", "2001-99-99", "base: ", "=", "x.y.z", "[0]", "'", '"',
)  # fmt: skip
HEADERS = (
    "()", "{}", "[" * 900, "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "{'shape': (10**9,)}",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,)}", "1" * 5000, "b'\\x", "(" * 99,
)  # fmt: skip
Mutation = Callable[[bytes, Random], bytes]


def text(data: bytes, random: Random) -> bytes:
    """Cut, doubled, overwritten, or with a word that means something to a parser."""
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    kind = random.randrange(4)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + data[start:]
    if kind == 2:
        return data[:start] + random.randbytes(min(end - start, 8)) + data[start + min(end - start, 8) :]
    return data[:start] + random.choice(WORDS).encode() + data[start:]


def tree(value: Any, random: Random) -> Any:
    """The same value with one node put out, replaced, doubled or wrapped."""
    inner: Any = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if value else []
    inner = inner if isinstance(value, dict | list) else []
    if not inner or random.random() < 0.15:
        return random.choice([*ODD, [value], {"a": value}, [value, value]])
    key, chosen = random.choice(inner)
    kind = random.randrange(6)
    if isinstance(value, dict):
        changed = dict(value)
        if kind == 0:
            del changed[key]
        elif kind == 1:
            changed[str(random.choice(ODD))] = changed.pop(key)
        elif kind == 2:
            changed[random.choice([*value])] = chosen
        else:
            changed[key] = tree(chosen, random)
        return changed
    if kind < 2:
        return value[:key] + (value[key + 1 :] if kind else [*value[key:], chosen])
    return [*value[:key], tree(chosen, random), *value[key + 1 :]]


def as_json(data: bytes, random: Random) -> bytes:
    """Another value at some place."""
    return json.dumps(tree(json.loads(data), random)).encode()


def as_lines(data: bytes, random: Random) -> bytes:
    """Of JSON lines one is changed, lost, doubled or moved."""
    lines = data.splitlines(keepends=True)
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(8)
    if kind < 3:
        line = lines[at]
        del lines[at : at + (kind != 1)]
        lines[to:to] = [line] * (kind > 0)
    else:
        lines[at] = as_json(lines[at], random) + b"\n"
    return b"".join(lines)


def as_yaml(data: bytes, random: Random) -> bytes:
    """Another value at some place."""
    return yaml.safe_dump(tree(yaml.safe_load(data), random)).encode()


def as_npy(data: bytes, random: Random) -> bytes:
    """Another header, as numpy writes it: its length before it."""
    head = random.choice(HEADERS).encode()
    if random.random() < 0.7:
        old = data[10 : 10 + int.from_bytes(data[8:10], "little")]
        head = text(old, random)[:60_000]
    return data[:8] + struct.pack("<H", len(head)) + head + data[10 + int.from_bytes(data[8:10], "little") :]


def as_weights(data: bytes, random: Random) -> bytes:
    """Of safetensors another header; of torch.save's archive another pickle, with right checksums."""
    if data[8:9] == b"{":
        size = int.from_bytes(data[:8], "little")
        head = as_json(data[8 : 8 + size], random)
        return struct.pack("<Q", len(head)) + head + data[8 + size :]
    out = io.BytesIO()
    kind = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", kind) as new:
        chosen = random.choice([name for name in old.namelist() if name.endswith("data.pkl")] + old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, text(content, random) if name == chosen else content)
    return out.getvalue()


KINDS: dict[str, Mutation] = {
    "text": text, "json": as_json, "lines": as_lines, "yaml": as_yaml, "npy": as_npy, "weights": as_weights,
}  # fmt: skip


def mutate(kind: str, data: bytes, random: Random) -> bytes:
    """Damage ``data``, which may be damaged so much already that only its bytes can be."""
    for mutation in random.sample([KINDS[kind], text], 2) if random.random() < 0.3 else (KINDS[kind], text):
        try:
            return mutation(data, random)
        except Exception:  # noqa: BLE001 - parsers of others raise whatever they run into
            continue
    return data
