"""Train and measure the rows of a campaign, several seeds each, and print a Markdown table: `campaign.py FILE...`.

FILE is a YAML of campaigns/accuracy. Jobs are single ranks of one thread, as many at a time as there are cores: CPU
seconds then compare. What is finished is not done again, so that an interrupted campaign goes on where it was.
"""

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

RUNS = Path("runs/campaigns")
HEAD = "| row | threat | n | clean | {attacks} | CPU s | relative |"


def main(files: list[Path]) -> None:
    """Run all campaigns, print their tables."""
    for file in files:
        campaign = yaml.safe_load(file.read_text())
        jobs = [(file.stem, campaign, row, seed) for row in campaign["rows"] for seed in seeds(campaign, row)]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda job: run(*job), jobs))
        print(f"\n{campaign['title']}\n")
        print(table(file.stem, campaign))


def run(name: str, campaign: dict[str, Any], row: dict[str, Any], seed: int) -> None:
    """Train one row with one seed, then measure it with each of the campaign's attacks."""
    folder = place(name, row, seed)
    settings = [*campaign.get("set", []), *row.get("set", [])]
    if not (folder / "summary.json").is_file():
        call("train", row["config"], f"runs={folder.parent}", f"name={folder.name}", f"seed={seed}", *settings)
    for attack, options in campaign["attacks"].items():
        out = folder / f"{attack}.json"
        if options and not out.is_file():  # without options: the attack that the training ended with
            call("eval", str(folder), "--json", str(out), *[f"evaluation.final.{option}" for option in options])


def call(*arguments: str) -> None:
    """Run hpcfast on one core; its output goes to a log beside the runs."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        ["hpcfast", *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / "log.txt").open("a") as log:
        log.write(f"$ hpcfast {' '.join(arguments)}\n{done.stdout}\n")
    if done.returncode:
        sys.exit(f"hpcfast {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")


def seeds(campaign: dict[str, Any], row: dict[str, Any]) -> range:
    """The seeds of a row: its own number of them, or the campaign's."""
    return range(row.get("seeds", campaign["seeds"]))


def place(name: str, row: dict[str, Any], seed: int) -> Path:
    """The run directory of a row and a seed."""
    return RUNS / name / f"{row['name']}-seed{seed}"


def table(name: str, campaign: dict[str, Any]) -> str:
    """All rows, every seed shown, none chosen."""
    attacks = list(campaign["attacks"])
    head = HEAD.format(attacks=" | ".join(attacks))
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    dear: dict[str, float] = {}
    for row in campaign["rows"]:
        folders = [place(name, row, seed) for seed in seeds(campaign, row)]
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        measured = {
            attack: [json.loads((f / f"{attack}.json").read_text()) for f in folders] if options else summaries
            for attack, options in campaign["attacks"].items()
        }
        cpu = statistics.mean(summary["train_cpu_seconds"] for summary in summaries)
        threat = f"{summaries[0]['norm']} {summaries[0]['eps']:g}"
        dear[threat] = dear.get(threat, cpu)  # the first row of a threat model is what its others are compared with
        cells = [
            row["name"],
            threat,
            str(len(summaries)),
            spread([result["clean_accuracy"] for result in measured[attacks[0]]]),
            *[spread([result["robust_accuracy"] for result in measured[attack]]) for attack in attacks],
            f"{cpu:.0f}",
            f"{cpu / dear[threat]:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The mean, then every value."""
    return f"{statistics.mean(values):.3f} ({' '.join(f'{value:.3f}' for value in values)})"


main([Path(argument) for argument in sys.argv[1:]])
