"""Print, as Markdown, what the runs of a campaign reached: `campaign_table.py FOLDER CONFIG...`."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HEAD = "| configuration | threat | trained with | n | clean | robust: mean (all) | seconds of training | images/s |"


def spread(values: list[float], form: str) -> str:
    """The mean, then every value."""
    return f"{statistics.mean(values):{form}} ({' '.join(f'{value:{form}}' for value in values)})"


def row(name: str, summaries: list[dict[str, Any]]) -> str:
    """One configuration: every seed is shown, none is chosen."""
    first = summaries[0]
    method = first["method"]["name"] + (f" {first['method']['steps']}" if "steps" in first["method"] else "")
    cells = [
        f"`{name}`",
        f"{first['norm']} {first['eps']:.4g}",
        method,
        str(len(summaries)),
        spread([s["clean_accuracy"] for s in summaries], ".3f"),
        spread([s["robust_accuracy"] for s in summaries], ".3f"),
        f"{statistics.mean([s['train_seconds'] for s in summaries]):.0f}",
        f"{statistics.mean([s['train_images_per_second'] for s in summaries]):,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(folder: Path, names: list[str]) -> None:
    """The table, and what the accuracies withstood."""
    print(HEAD)
    print("|" + "---|" * HEAD.count(" | ") + "---|")
    attacks = set()
    for name in names:
        files = sorted(folder.glob(f"{name}-seed*/summary.json"))
        summaries = [json.loads(path.read_text()) for path in files]
        if summaries:
            print(row(name, summaries))
            attack = summaries[0]["attack"]
            attacks.add(f"PGD-{attack['steps']} x {attack['restarts']} on {summaries[0]['n_eval']:,} images")
    print(f"\nRobust accuracy under {' or '.join(sorted(attacks))}.")


main(Path(sys.argv[1]), sys.argv[2:])
