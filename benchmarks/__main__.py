"""``python -m benchmarks``: measure, write runs/bench/speed.json and the tables of docs/speed.md.

A stage that was measured is kept in runs/bench and not measured again; remove its file there, or the folder, for that.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Any

STAGES = ("step", "loader", "ranks", "weak", "allreduce", "evaluation", "training", "convergence")
PAGE = Path("docs/speed.md")
BUSY = 0.15
"""From this part of the machine's cores on, other processes spoil wall times."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, and write all that there is."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each rank and each peer has one core
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=STAGES, help="this stage alone")
    parser.add_argument("--short", action="store_true", help="tiny: does it work? (writes no page)")
    parser.add_argument("--out", type=Path, help="default: runs/bench, or runs/bench-short")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    out = options.out or Path("runs") / ("bench-short" if options.short else "bench")
    for name in [options.only] if options.only else STAGES:
        if (out / f"{name}.json").exists():
            print(f"{name}: measured before; remove {out / name}.json to measure again")
        else:
            measure(name, out, options.short)
    write(out, None if options.short else options.page)


def measure(name: str, out: Path, short: bool) -> None:
    """Run one stage and keep its rows."""
    from benchmarks import Bench, table
    from hpcfast.distributed import comm, launcher

    launcher.prepare()  # as the command does; peers in this process have it, too
    stage = importlib.import_module(f"benchmarks.{name}")
    others, started, cpu = others_share(), time.perf_counter(), sum(os.times()[:4])
    print(f"{name}: …", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    rows = stage.rows(Bench(comm.init(), out, short))
    about = {
        "stage": name,
        "title": stage.TITLE,
        "about": " ".join((stage.__doc__ or "").split()),
        "short": short,
        "date": date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "version": version(),
        "others": others,
        "busy": others > BUSY,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": sum(os.times()[:4]) - cpu,
    }
    table.save(out / f"{name}.json", about, rows)
    print(f"{name}: {about['seconds']:.0f} s, {about['cpu_seconds']:.0f} CPU s")


def write(out: Path, page: Path | None) -> None:
    """One JSON file of all stages that there are; the same on ``page``; and print it."""
    from benchmarks import table

    files = [path for name in STAGES if (path := out / f"{name}.json").exists()]
    everything: list[dict[str, Any]] = [json.loads(path.read_text()) for path in files]
    half = out / "speed.half"
    half.write_text(json.dumps(everything, indent=1) + "\n")
    half.replace(out / "speed.json")
    text = table.markdown([table.load(path) for path in files])
    print(f"\n{text}\n\n{out / 'speed.json'}")
    if page:
        table.insert(page, text)


def others_share() -> float:
    """What part of the machine's cores is busy while we are not."""
    import psutil

    return psutil.cpu_percent(interval=2) / 100


def version() -> str:
    """The commit, with a + where the tree differs from it by more than the page, which earlier stages wrote."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode:
        return "unknown"
    same = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", f":(exclude){PAGE}"], check=False)
    return commit.stdout.strip() + "+" * bool(same.returncode)


if __name__ == "__main__":
    main()
