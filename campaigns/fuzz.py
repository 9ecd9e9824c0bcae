"""Feed damaged files to all that reads files, led by the lines of code that each reaches, until nothing new is found.

``python campaigns/fuzz.py --minutes 30``; exits with 1 if a file is not refused in one clear message, takes longer than
10 seconds or more memory than it is worth. It needs atheris (``pip install atheris``), which nothing else does. What it
found, and files that reach what others don't, are kept in runs/fuzz: the next campaign goes on from there.
"""

import argparse
import gc
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork

try:
    import atheris  # type: ignore[import-untyped]  # optional, and without types
except ImportError:
    sys.exit("campaigns/fuzz.py needs atheris; make a copy of .venv, or one beside it, and pip install atheris there")

with atheris.instrument_imports(include=["hpcfast"]):
    import kill_jobs
    import kill_runs
    from fuzzing import judging, mutations, targets
    from fuzzing.target import Target
    from hpcfast.datasets.packs import write
    from hpcfast.training import train  # noqa: F401 - imported once, here

LIMIT = 600.0
LONGEST = 1 << 16
"""Bytes of a file that is tried."""
PLACE = Path("runs/fuzz")
SHORT = ["epochs=1", "schedule.warmup=0", "guard.every=0", "checkpoint.minutes=0", "log_every=2"]


def material(folder: Path) -> dict[str, Target]:
    """All targets, of a tiny run and a pack that are made here."""
    kill_runs.write_data(folder)
    # In a process of its own: Horovod's threads would not survive the forks that follow.
    command, log = ["train", str(folder / "tiny.yaml"), "name=tiny", *SHORT], folder / "train.log"
    codes, _ = kill_jobs.Forked(1, command, log).end(LIMIT)
    if any(codes):
        raise RuntimeError(log.read_text())
    write.pack(folder / "data", folder / "packed", write.Recipe(1, None, 0), lambda done, of: None)
    (folder / "targets").mkdir()
    return targets.every(folder / "targets", folder / "runs" / "tiny", folder / "packed")


def fuzz(name: str, target: Target, seconds: int, seed: int) -> None:
    """Try files on one target, and end this process."""
    corpus = PLACE / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.4:
            return atheris.Mutate(data, most)
        return mutations.mutate(target.kind, data, random)[:most]

    def judge(data: bytes) -> None:
        judging.judge(target, data)

    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-seed={seed}", "-timeout=100", "-rss_limit_mb=0"]
    found = [f"-artifact_prefix={PLACE}/found-{name}-", "-print_final_stats=1", "-len_control=0"]
    atheris.Setup([sys.argv[0], *options, *found, str(corpus)], judge, custom_mutator=mutate)
    atheris.Fuzz()


def forked(name: str, target: Target, seconds: int, seed: int) -> tuple[int, str]:
    """Do that in a process of its own; its exit code, and what it said."""
    log = PLACE / f"{name}.log"
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), log.read_text(errors="replace")
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        fuzz(name, target, seconds, seed)
    except BaseException:  # noqa: BLE001 - it must not go up into the parent's code
        traceback.print_exc()
    os._exit(1)


def main() -> int:
    """Run the campaign; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for all targets together")
    parser.add_argument("--only", nargs="*", help="names of targets")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began, failed, total = time.monotonic(), [], 0
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        chosen = {n: t for n, t in material(Path(folder)).items() if not options.only or n in options.only}
        gc.freeze()
        for name, target in chosen.items():
            seconds = max(1, round(60 * options.minutes / len(chosen)))
            code, said = forked(name, target, seconds, options.seed)
            runs = re.search(r"number_of_executed_units: (\d+)", said)
            covered = re.findall(r"cov: (\d+)", said)
            total += int(runs[1]) if runs else 0
            print(
                f"{name:12} {int(runs[1]) if runs else 0:9,} files, {covered[-1] if covered else '?'} edges, "
                f"{'nothing found' if not code else f'FOUND: {PLACE}/{name}.log'}",
                flush=True,
            )
            failed += [name] if code else []
    print(f"{total:,} files in {(time.monotonic() - began) / 60:.0f} minutes; found: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
