"""Kill training runs at random moments; each must end bit for bit as one that nothing interrupted, with a sound log.

``python campaigns/kill_trainings.py --kills 200 --seed 0``; exits with 1 if any weight or accuracy differs. A run is
tiny, but has all that a run can be doing: it saves every few steps, is rolled back twice, keeps averaged weights.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads don't survive a fork

import pyautoattack.autopgd_base  # noqa: F401 - imported once, here, and not by every rank

import hpcfast.training.train  # noqa: F401 - likewise
import kill_jobs
import kill_runs
from hpcfast.errors import UserError
from hpcfast.runs import events
from hpcfast.runs.check import check

LIMIT = 60.0
"""Seconds after which ranks that survive the death of another are taken to hang."""
KILLS_A_RUN = 8
ACCURACIES = ("clean_accuracy", "robust_accuracy", "epochs", "catastrophic_overfitting")


@dataclass(frozen=True)
class Kill:
    """One signal, and how the job ended."""

    run: str
    ranks: int
    data: str
    launcher: str
    doing: str
    signal: str
    victims: str
    codes: list[int]
    hung: bool


@dataclass(frozen=True)
class Setting:
    """How a run is started."""

    ranks: int
    launcher: str = "forked"
    asynchronous: bool = False
    data: str = "data"
    """Images as they are, or in a "pack": in another order, hence other weights."""

    def start(self, folder: Path, name: str) -> "kill_jobs.Forked | kill_jobs.Launched":
        overrides = [f"name={name}", f"checkpoint.asynchronous={str(self.asynchronous).lower()}"]
        overrides += [f"data.path={folder / self.data}"]
        command, log = ["train", str(folder / "tiny.yaml"), *overrides], folder / f"{name}.log"
        if self.launcher in kill_jobs.LAUNCHERS:
            return kill_jobs.Launched(self.launcher, self.ranks, command, log)
        return kill_jobs.Forked(self.ranks, command, log)


@dataclass(frozen=True)
class Whole:
    """What an uninterrupted run reached, and how many seconds it took."""

    outcome: dict[str, Any]
    seconds: float


class Campaign:
    """All runs, all kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.kills: list[Kill] = []
        self.wrong: list[str] = []
        self.runs = self.deadlocks = 0
        self.whole: dict[Setting, Whole] = {}
        pack = ["data", "pack", str(folder / "data"), str(folder / "pack")]
        if kill_jobs.Forked(1, pack, folder / "pack.log").end(LIMIT)[0] != [0]:
            raise RuntimeError((folder / "pack.log").read_text())

    def uninterrupted(self, setting: Setting) -> "Whole":
        """The run that nothing interrupts, with these ranks and this data."""
        plain = Setting(setting.ranks, data=setting.data)
        if plain not in self.whole:
            name, began = f"whole-{plain.ranks}-{plain.data}", time.monotonic()
            self.finish(plain, name)
            self.whole[plain] = Whole(self.outcome(name), time.monotonic() - began)
            if not self.whole[plain].outcome["catastrophic_overfitting"]["collapses"]:
                raise RuntimeError("no collapse: the campaign's configuration provokes no rollback")
        return self.whole[plain]

    def outcome(self, name: str) -> dict[str, Any]:
        run = self.folder / "runs" / name
        summary = json.loads((run / "summary.json").read_text())
        return {"weights": (run / "model.safetensors").read_bytes(), **{key: summary[key] for key in ACCURACIES}}

    def finish(self, setting: Setting, name: str) -> None:
        codes, hung = setting.start(self.folder, name).end(5 * LIMIT)
        if any(codes) or hung:
            log = (self.folder / f"{name}.log").read_text()
            raise RuntimeError(f"{name}, {setting}: exit codes {codes}, hung: {hung}\n{log[-3000:]}")

    def run(self, setting: Setting, kills: int) -> None:
        """Kill a run up to ``kills`` times, then let it finish, and compare."""
        self.runs += 1
        name, expected = f"run-{self.runs}", self.uninterrupted(setting).outcome
        summary = self.folder / "runs" / name / "summary.json"
        for _ in range(kills):
            self.attempt(setting, name)
            if summary.is_file():
                break
        self.finish(setting, name)
        found = self.outcome(name)
        different = [key for key in found if found[key] != expected[key]]
        try:
            check(self.folder / "runs" / name)
        except UserError as error:
            different.append(f"log: {error}")
        if different:
            self.wrong.append(f"{name} ({setting}): other {', '.join(different)}")
            shutil.copytree(self.folder / "runs" / name, Path("runs/campaign-kills") / name, dirs_exist_ok=True)
        else:
            shutil.rmtree(self.folder / "runs" / name)

    def attempt(self, setting: Setting, name: str) -> None:
        """Start the run once and kill it, unless it ends before."""
        run = self.folder / "runs" / name
        before = len(events.read(run / "events.jsonl"))
        job = setting.start(self.folder, name)
        if self.wait_for_moment(setting, job, run, before):
            busy = kill_runs.doing(run, before)
            number = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            running = job.running()
            victims = self.random.choice([running, [self.random.choice(running)]]) if running else []
            for pid in victims:
                os.kill(pid, number)
            # A launcher ends ranks that wait, as they start, for one that died; here nobody does.
            alone = busy == "start-up" and setting.launcher == "forked"
            codes, hung = job.end(LIMIT / 10 if alone else LIMIT)
            who = "all" if len(victims) == len(running) else "one"
            kill = Kill(name, setting.ranks, setting.data, setting.launcher, busy, number.name, who, codes, hung)
            if victims:
                self.judge(kill)
        else:
            job.end(LIMIT)

    def judge(self, kill: Kill) -> None:
        self.kills.append(kill)
        stopped = kill.signal == "SIGTERM" and kill.doing not in ("start-up", "end")
        if kill.hung and (kill.doing, kill.launcher) != ("start-up", "forked"):
            log = (self.folder / f"{kill.run}.log").read_text()
            if kill.launcher == "forked" and kill_jobs.is_horovods_deadlock(log):
                self.deadlocks += 1
            else:
                self.wrong.append(f"the survivors hung: {kill}\n{log[-6000:]}")
        if stopped and not set(kill.codes) <= {
            0,
            75 if kill.launcher in ("forked", "mpirun") else 1,
        }:  # the others' only code
            self.wrong.append(f"asked to stop, it failed: {kill}")

    def wait_for_moment(
        self, setting: Setting, job: "kill_jobs.Forked | kill_jobs.Launched", run: Path, before: int
    ) -> bool:
        """Wait at random; for half of the kills only until the run does what was hit least so far."""
        hits = Counter(kill.doing for kill in self.kills)
        aim = self.random.choice([None, min(kill_runs.KINDS, key=lambda kind: (hits[kind], self.random.random()))])
        launched = setting.launcher in kill_jobs.LAUNCHERS
        while launched and aim != "start-up" and job.running() and len(events.read(run / "events.jsonl")) == before:
            time.sleep(0.05)  # else imports would be all that is killed
        patience = self.random.uniform(0, 0.6 * self.uninterrupted(setting).seconds)
        deadline = time.monotonic() + patience  # what is aimed at may be over, in this run
        if aim in ("checkpoint", "evaluation"):  # not always the first one
            time.sleep(self.random.uniform(0, patience))
        while job.running() and time.monotonic() < deadline and kill_runs.doing(run, before) != aim:
            time.sleep(0.002)
        if aim != "checkpoint":
            time.sleep(self.random.uniform(0, 0.5 if aim == "start-up" else 0.03))
        return bool(job.running())

    def table(self) -> str:
        """Kills by what the run was doing."""
        columns = [(number, who) for number in ("SIGKILL", "SIGTERM") for who in ("one", "all")]
        lines = ["| killed while | " + " | ".join(f"{number} {who}" for number, who in columns) + " | sum |"]
        lines.append("|---|" + "---|" * (len(columns) + 1))
        for kind in (*kill_runs.KINDS, "end"):
            hits = Counter((kill.signal, kill.victims) for kill in self.kills if kill.doing == kind)
            lines.append(f"| {kind} | " + " | ".join(str(hits[column]) for column in columns) + f" | {hits.total()} |")
        started = Counter(f"{kill.launcher}, {kill.ranks} ranks, {kill.data}" for kill in self.kills)
        lines.append(f"{len(self.kills)} kills of {self.runs} runs: {dict(started)}; {len(self.wrong)} wrong")
        if self.deadlocks:
            lines.append(f"{self.deadlocks} survivors were in Horovod's own deadlock, which any launcher ends")
        return "\n".join([*lines, *self.wrong])


def main() -> int:
    """Run the campaign; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--launched", type=int, default=30, help="of them under launchers")
    parser.add_argument("--launchers", nargs="+", choices=kill_jobs.LAUNCHERS, default=[*kill_jobs.LAUNCHERS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("runs/campaign-kills.json"))
    options = parser.parse_args()
    gc.freeze()  # forked ranks share what was imported
    with tempfile.TemporaryDirectory(prefix="campaign-kills-") as folder:
        kill_runs.write_data(Path(folder))
        campaign = Campaign(Path(folder), options.seed)
        parts = {("forked",): options.kills - options.launched, tuple(options.launchers): options.launched}
        for launchers, kills in parts.items():
            goal = len(campaign.kills) + kills
            while (left := goal - len(campaign.kills)) > 0:
                launcher = launchers[campaign.runs % len(launchers)]
                ranks = campaign.random.choice([1, 2]) if launcher in ("forked", "torchrun") else 2
                data = campaign.random.choice(["data", "pack"])
                setting = Setting(ranks, launcher, campaign.random.random() < 0.5, data)
                campaign.run(setting, min(left, KILLS_A_RUN))
                print(f"{len(campaign.kills)} kills, {campaign.runs} runs, {len(campaign.wrong)} wrong", flush=True)
    table = campaign.table()
    print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"seed": options.seed, "wrong": campaign.wrong, "kills": [asdict(kill) for kill in campaign.kills]}
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
