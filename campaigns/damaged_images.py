"""One damaged image among hundreds, read in large batches by all that reads images: each must name it and go on.

``python campaigns/damaged_images.py`` takes about half an hour on 2 cores, ``--runs 1`` two minutes, ``--quick`` a
quarter of one. Each reader has a process of its own, since the fault that is looked for is a crash in a thread of DALI.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RUN = """\
threat: {norm: Linf, eps: 0.1}
data: {channels: 1, size: 28, batch_size: 250, threads: 1, held_out: 0}
model: {name: cifar_resnet8, options: {width: 4, stem_stride: 2}, mean: [0.5], std: [0.25]}
attack: {name: fgsm_rs}
guard: {every: 0, images: 300, attack: {name: pgd, steps: 1}}
epochs: 1
optim: {lr: 0.05, lr_batch: 250}
schedule: {name: cosine}
evaluation: {every: 0, batch_size: 250, monitor: {attack: {name: pgd, steps: 1}},
  final: {attack: {name: pgd, steps: 1}}}
"""


def encoded(form: str, seed: int) -> bytes:
    """An image of noise, 28x28."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (28, 28), np.uint8)).save(out, form)
    return out.getvalue()


def damaged() -> dict[str, bytes]:
    """Files that cannot be decoded, by what is wrong with them."""
    png, jpeg = encoded("PNG", 0), encoded("JPEG", 0)
    table = jpeg.index(b"\xff\xc4") + 5
    return {
        "a PNG's first 20 bytes": png[:20],
        "a PNG's first 60 bytes": png[:60],
        "half a PNG": png[: len(png) // 2],
        "a PNG with junk inside": png[:200] + bytes(range(100)) + png[300:],
        "text": b"x" * 500,
        "a JPEG's first 200 bytes": jpeg[:200],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a JPEG with a wrong table": jpeg[:table] + b"\xff" * 16 + jpeg[table + 16 :],
    }


def write(root: Path) -> Path:
    """Two classes of 260 training and 260 validation images."""
    for split in ("train", "val"):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for i in range(130 if split == "val" else 260):
                (root / split / label / f"{i:03}.png").write_bytes(encoded("PNG", i))
    return root


def readers(root: Path) -> dict[str, Callable[[Path, Path], Any]]:
    """What reads images: called with the data and an empty folder, it returns or raises what names the bad ones."""
    import torch

    from hpcfast import explain
    from hpcfast.config import load
    from hpcfast.data.reader import read_splits
    from hpcfast.datasets import corrupt
    from hpcfast.datasets.packs import write
    from hpcfast.distributed import comm
    from hpcfast.evaluation import evaluate, shared_out
    from hpcfast.training import train
    from hpcfast.training.guard import Guard

    world = comm.init()
    (root / "run.yaml").write_text(RUN)
    config = load(root / "run.yaml", [f"data.path={root / 'data'}", f"runs={root / 'runs'}"])
    model = config.model.build(2)

    def trained(data: Path, out: Path) -> str:
        mine = load(root / "run.yaml", [f"data.path={data}", f"runs={out}", "name=run"])
        train.train(mine, world)
        return (mine.folder / "skips.txt").read_text()

    def explained(data: Path, out: Path) -> str:
        val = read_splits(data)[1]
        *_, faults = explain.measure([model], val, val.good, config, world)
        return str([val.files[i] for i in faults])

    def guarded(data: Path, out: Path) -> str:
        split, faults = read_splits(data)[0], dict[int, str]()
        Guard(config).examine(model, split, world)
        for _ in shared_out(split, split.good, config.evaluation.batch_size, config, world, faults):
            pass
        return str([split.files[i] for i in faults])

    torch.set_num_threads(1)
    return {
        "train": trained,
        "eval": lambda data, out: evaluate(model, read_splits(data)[1], config, config.evaluation.final, world),
        "guard": guarded,
        "explain": explained,
        "corrupt": lambda data, out: corrupt.corrupt(data, out / "c", names=("contrast",), severities=(1,)),
        "pack": lambda data, out: write.pack(data, out / "p", write.Recipe(1, None, 0), lambda done, of: None),
    }


QUICK = {"train": ("half a PNG", "text"), "eval": ("a PNG's first 60 bytes",), "explain": ("a JPEG's first 200 bytes",)}


def look(what: str, runs: int, kinds: Container[str]) -> None:
    """Have one reader meet these kinds of damage, ``runs`` times, at places spread over the batch."""
    from hpcfast.errors import UserError

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        data, read = write(root / "data"), readers(root)[what]
        for kind, content in damaged().items():
            if kind not in kinds:
                continue
            print(f"{what}: {kind}", flush=True)
            for i in range(runs):
                names = [f"{split}/a/{(37 * i) % 130:03}.png" for split in ("train", "val")]
                before = [(data / name).read_bytes() for name in names]
                for name in names:
                    (data / name).write_bytes(content)
                (out := root / "out").mkdir()
                try:
                    said = str(read(data, out))
                except UserError as error:
                    said = str(error)
                # A pack takes damage behind the header as it is; who reads the pack leaves that image out.
                if what != "pack" and not any(name in said for name in names):
                    raise SystemExit(f"{what}, {kind}: neither of {names} is named: {said[-500:]}")
                for name, good in zip(names, before, strict=True):
                    (data / name).write_bytes(good)
                shutil.rmtree(out)


def main() -> None:
    """Look at all readers, or at one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each reader with each kind of damage")
    parser.add_argument("--only", help="one reader, in this process")
    parser.add_argument("--quick", action="store_true", help="some readers, each with some damage, in this process")
    given = parser.parse_args()
    if given.quick:
        for what, kinds in QUICK.items():
            look(what, 1, kinds)
        return
    if given.only:
        look(given.only, given.runs, damaged())
        return
    failed = []
    for what in ("train", "eval", "guard", "explain", "corrupt", "pack"):
        command = [sys.executable, __file__, "--only", what, "--runs", str(given.runs)]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
        print(
            f"{what}: {len(damaged())} kinds of damage, {given.runs} times each: {code or 'ok'}",
            flush=True,
        )
        failed += [what] if code else []
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
