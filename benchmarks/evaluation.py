"""PGD-50 x 10 by ``hpcfast eval`` and by torchattacks, side by side: the same run, images and threads.

``python benchmarks/evaluation.py runs/digits_l2 --images 250 --repeats 5`` prints a table: CPU seconds, robust accuracy
and, round by round, how much faster ours is. torchattacks has no restarts: they are ten calls on all images, or its
MultiAttack, which leaves out images that are fooled.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchattacks
from torch import Tensor, nn

from hpcfast import comm, export
from hpcfast.attacks.pgd import Pgd
from hpcfast.config import Check
from hpcfast.data import dali, folder
from hpcfast.evaluate import evaluate
from hpcfast.rundir import RunDirectory

STEPS, RESTARTS = 50, 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--eps", type=float, help="instead of the run's")
    options = parser.parse_args()
    world = comm.init()
    directory = RunDirectory(options.run)
    config = directory.read_config()
    if options.eps:
        config = config.model_copy(update={"threat": config.threat.model_copy(update={"eps": options.eps})})
    model, _ = export.load(directory, config)
    split = folder.read(config.data.path)[1]
    ids = folder.spread(len(split), options.images)
    shard = dali.Shard(0, 1, world.device, world.threads)
    x, y, _ = next(dali.batches(split, ids, config.data, shard, len(ids), None))
    # As their users have them: contiguous, as torchvision and torch.load give networks.
    theirs = model.to(memory_format=torch.contiguous_format), x.contiguous(), y
    kind = torchattacks.PGDL2 if config.threat.norm == "L2" else torchattacks.PGD

    def attack(model: nn.Module) -> torchattacks.attack.Attack:
        return kind(model, eps=config.threat.eps, alpha=2.5 * config.threat.eps / STEPS, steps=STEPS)

    def ours() -> float:
        check = Check(attack=Pgd(name="pgd", steps=STEPS, restarts=RESTARTS), images=options.images)
        return float(evaluate(model, split, config, check, world)["robust_accuracy"])

    rows: dict[str, Callable[[], float]] = {
        "torchattacks, ten calls": lambda: ten_calls(attack(theirs[0]), *theirs),
        "torchattacks.MultiAttack": lambda: multi(attack, *theirs),
        "hpcfast": ours,
    }
    report(measured(rows, options.repeats), f"{len(ids)} images, {torch.get_num_threads()} threads")


def ten_calls(attack: "torchattacks.attack.Attack", model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Robust accuracy, the worst of ten runs counting for each image."""
    robust = model(x).argmax(1) == y
    for _ in range(RESTARTS):
        robust &= model(attack(x, y)).argmax(1) == y
    return robust.float().mean().item()


def multi(attack: Callable[[nn.Module], "torchattacks.attack.Attack"], model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The same, each run at the images that stood until then."""
    together = torchattacks.MultiAttack([attack(model) for _ in range(RESTARTS)])
    return (model(together(x, y)).argmax(1) == y).float().mean().item()


def measured(rows: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and robust accuracy of each row, round by round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for repeat in range(repeats):
        for name, run in rows.items():
            torch.manual_seed(repeat)
            started = time.process_time()
            robust = run()
            found[name].append((time.process_time() - started, robust))
    return found


def report(found: dict[str, list[tuple[float, float]]], caption: str) -> None:
    """A Markdown table: medians, the spread of accuracies, ratios round by round."""
    ours = [seconds for seconds, _ in found["hpcfast"]]
    print("| PGD-50 x 10 by | CPU seconds | robust accuracy | hpcfast is faster by |\n|---|---|---|---|")
    for name, rounds in found.items():
        ratios = [seconds / own for (seconds, _), own in zip(rounds, ours, strict=True)]
        seconds, robust = (statistics.median(values) for values in zip(*rounds, strict=True))
        low, high = min(each for _, each in rounds), max(each for _, each in rounds)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"| {name} | {seconds:.1f} | {robust:.3f} ({low:.3f}-{high:.3f}) | {spread} |")
    print(f"\n{caption}, n = {len(ours)}")


main()
