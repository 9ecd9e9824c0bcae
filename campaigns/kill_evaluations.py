"""Kill evaluations at random moments; each must end with the numbers and the table of one that nothing interrupted.

``python campaigns/kill_evaluations.py --kills 50 --seed 0``; exits with 1 if any differ. On one and on two ranks.
"""

import argparse
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork

import pyautoattack.autopgd_base
import pyautoattack.square  # noqa: F401 - likewise

import hpcfast.evaluation.session
import hpcfast.training.train  # noqa: F401 - likewise
import kill_jobs
import kill_runs
from hpcfast.evaluation.outcomes import Journal

LIMIT = 60.0
"""Seconds after which a job is taken to hang."""
KILLS_A_RUN = 5
COMMAND = ["--attack", "pgd", "--steps", "20", "--restarts", "4", "--curve", "0.2,0.5"]


class Campaign:
    """All evaluations of one tiny run, all kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.seconds: dict[int, float] = {}
        self.expected: dict[int, Any] = {}
        train = ["train", str(folder / "tiny.yaml"), "name=tiny", "guard.every=0", "model.options.width=4"]
        self.finish(kill_jobs.Forked(1, train, folder / "train.log"), "train")
        for ranks in (1, 2):
            began = time.monotonic()
            self.finish(self.start(ranks, f"whole-{ranks}"), f"whole-{ranks}")
            self.seconds[ranks] = time.monotonic() - began
            self.expected[ranks] = self.outcome(f"whole-{ranks}")

    def start(self, ranks: int, name: str) -> kill_jobs.Forked:
        command = ["eval", str(self.folder / "runs" / "tiny"), *COMMAND, "--out", str(self.folder / name)]
        return kill_jobs.Forked(ranks, command, self.folder / f"{name}.log")

    def finish(self, job: kill_jobs.Forked, name: str) -> None:
        codes, hung = job.end(LIMIT)
        if any(codes) or hung:
            log = (self.folder / f"{name}.log").read_text()
            raise RuntimeError(f"{name}: exit codes {codes}, hung: {hung}\n{log[-3000:]}")

    def outcome(self, name: str) -> Any:
        """The numbers and the table of images."""
        (place,) = (self.folder / name).iterdir()
        result = json.loads((place / "result.json").read_text())
        del result["seconds"]
        return result, (place / "images.csv").read_text()

    def run(self, number: int, kills: int) -> int:
        """Kill an evaluation up to ``kills`` times, let it finish, compare; how often it was killed."""
        name, ranks, done = f"run-{number}", self.random.choice([1, 2]), 0
        for _ in range(kills):
            job = self.start(ranks, name)
            time.sleep(self.random.uniform(0, self.seconds[ranks]))
            moment, victims = self.moment(name), job.running()
            victims = self.random.choice([victims, [self.random.choice(victims)]]) if victims else []
            for pid in victims:
                os.kill(pid, self.random.choice([signal.SIGKILL, signal.SIGTERM]))
            # Forked ranks wait for ever for one that died as they were starting; a launcher would end them.
            _, hung = job.end(LIMIT / 10 if moment == "start-up" else LIMIT)
            log = (self.folder / f"{name}.log").read_text()
            if hung and moment != "start-up" and not kill_jobs.is_horovods_deadlock(log):
                self.wrong.append(f"{name}, {moment}: the survivors hung")
            done += bool(victims)
            self.kills[moment] += bool(victims)
            if not victims:
                break
        self.finish(self.start(ranks, name), name)
        if self.outcome(name) != self.expected[ranks]:
            self.wrong.append(f"{name}: other numbers or another table than on {ranks} ranks uninterrupted")
        return done

    def moment(self, name: str) -> str:
        """How far the evaluation is."""
        places = list((self.folder / name).glob("*"))
        if not places:
            return "start-up"
        if (places[0] / "result.json").exists():
            return "after the attacks"
        return f"after {len(Journal(places[0], 0).read()) // 10 * 10} batches or more"


def main() -> int:
    """Run the campaign; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gc.freeze()  # forked ranks share what was imported
    with tempfile.TemporaryDirectory(prefix="eval-kills-") as folder:
        kill_runs.write_data(Path(folder))
        campaign = Campaign(Path(folder), options.seed)
        runs = 0
        while (left := options.kills - campaign.kills.total()) > 0:
            runs += 1
            campaign.run(runs, min(left, KILLS_A_RUN))
            print(f"{campaign.kills.total()} kills, {runs} evaluations, {len(campaign.wrong)} wrong", flush=True)
    print(*(f"{count:4} {moment}" for moment, count in sorted(campaign.kills.items())), sep="\n")
    print(*campaign.wrong, sep="\n")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
