"""``hpcfast eval``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options


def command(
    run: Annotated[Path, typer.Argument(help="run directory, e.g. runs/digits_l2", show_default=False)],
    overrides: options.Overrides = None,
    attack: Annotated[str | None, typer.Option(help="attack to use: apgd, pgd, fgsm or natural")] = None,
    steps: Annotated[int | None, typer.Option(help="steps of PGD or APGD")] = None,
    restarts: Annotated[int | None, typer.Option(help="PGD restarts, of which the worst counts")] = None,
    images: Annotated[int | None, typer.Option(help="validation images, evenly spread; default: all")] = None,
    json: options.Json = None,
) -> None:
    """Measure clean and robust accuracy of a finished run, over any number of ranks; by default as its config says."""
    from hpcfast import comm, export
    from hpcfast.config import load
    from hpcfast.data import folder
    from hpcfast.evaluate import chosen_images, evaluate
    from hpcfast.progress import Reporter
    from hpcfast.rundir import RunDirectory

    chosen = {"attack.name": attack, "attack.steps": steps, "attack.restarts": restarts, "images": images}
    changes = [f"evaluation.final.{key}={value}" for key, value in chosen.items() if value is not None]
    directory = RunDirectory(run)
    world = comm.init()

    def prepare() -> Any:
        directory.read_config()
        config = load(directory.config, [*changes, *(overrides or [])])
        return config, export.load(directory, config)[0], folder.read(config.data.path)[1]

    config, model, split = comm.together(prepare)
    with Reporter(world.is_root) as reporter:
        check = config.evaluation.final
        task = reporter.task("evaluation", len(chosen_images(split, check, world)), "images")
        result = evaluate(model.to(world.device), split, config, check, world, task.update)
        task.close()
    if world.is_root:
        for key in ("clean_accuracy", "robust_accuracy"):
            low, high = result["ci95"][key]
            print(f"{key:16} {result[key]:.4f}   95 % interval {low:.4f} to {high:.4f}")
        print(f"{'attack':16} {result['attack']}, {result['n_eval']} images, {result['seconds']:.1f} s")
    comm.on_root(lambda: options.write_json(json, result))
