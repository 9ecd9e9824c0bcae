"""``hpcfast eval``."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options

FOREIGN = "Weights from elsewhere, instead of RUN"


def command(
    run: Annotated[Path | None, typer.Argument(help="run directory, e.g. runs/digits_l2", show_default=False)] = None,
    overrides: options.Overrides = None,
    attack: Annotated[str | None, typer.Option(help="pgd, apgd, autoattack, square, fgsm_rs or standard")] = None,
    steps: Annotated[int | None, typer.Option(help="steps of PGD or APGD")] = None,
    restarts: Annotated[int | None, typer.Option(help="PGD restarts, of which the worst counts")] = None,
    version: Annotated[str | None, typer.Option(help="AutoAttack's: standard, or rand for random models")] = None,
    images: Annotated[int | None, typer.Option(help="validation images, evenly spread; default: all")] = None,
    norm: Annotated[str | None, typer.Option(help="of the threat model: Linf, L2 or L1")] = None,
    eps: Annotated[str | None, typer.Option(help="of the threat model, pixels in [0,1], e.g. 8/255")] = None,
    curve: Annotated[str | None, typer.Option(help="more radii, e.g. 0.5,1,2: accuracy against eps")] = None,
    corruptions: Annotated[
        Path | None, typer.Option(help="instead of attacks: a folder of corrupted images, as ImageNet-C's")
    ] = None,
    save_images: Annotated[bool, typer.Option("--save-images", help="keep the images that fool the model")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="measure again what was measured before")] = False,
    weights: Annotated[Path | None, typer.Option(help="state dict or checkpoint", rich_help_panel=FOREIGN)] = None,
    weights_key: Annotated[
        str | None, typer.Option(help="where in the file they are, e.g. state_dict_ema", rich_help_panel=FOREIGN)
    ] = None,
    arch: Annotated[str | None, typer.Option(help="its network, e.g. resnet50", rich_help_panel=FOREIGN)] = None,
    mean: Annotated[str | None, typer.Option(help="of pixels, e.g. 0.485,0.456,0.406", rich_help_panel=FOREIGN)] = None,
    std: Annotated[str | None, typer.Option(help="of pixels, e.g. 0.229,0.224,0.225", rich_help_panel=FOREIGN)] = None,
    classes: Annotated[
        Path | None, typer.Option(help="text file, a class a line, in the network's order", rich_help_panel=FOREIGN)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder with train/ and val/", rich_help_panel=FOREIGN)] = None,
    size: Annotated[int | None, typer.Option(help="of images, pixels", rich_help_panel=FOREIGN)] = None,
    out: Annotated[Path | None, typer.Option(help="folder for results; default: RUN/evaluations")] = None,
    json: options.Json = None,
) -> None:
    """Measure clean and robust accuracy, over any number of ranks; by default as the run's config says.

    Stopped or killed, the same command resumes; what was measured before is shown again.
    """
    with options.quick_imports():
        from hpcfast.component import Invalid, find
        from hpcfast.distributed import comm
        from hpcfast.errors import UserError
        from hpcfast.evaluation import subject
        from hpcfast.evaluation.session import Subject, measure

    first = [str(run)] if run and "=" in str(run) else []  # without RUN a setting stands in its place
    chosen = {"attack.name": attack, "attack.steps": steps, "attack.restarts": restarts, "attack.version": version}
    chosen |= {"images": images, "curve": None if curve is None else f"[{curve}]"}
    changes = [f"evaluation.final.{key}={value}" for key, value in chosen.items() if value is not None]
    changes += [f"threat.{key}={value}" for key, value in (("norm", norm), ("eps", eps)) if value is not None]
    changes += [*first, *(overrides or [])]

    def what() -> Subject:
        try:
            find("hpcfast.attacks", attack or "pgd")
        except Invalid as error:
            raise UserError(f"--attack: {str(error).removeprefix('name: ')}") from None
        if bool(weights) == bool(run and not first):
            raise UserError("name what to measure: either a run directory or --weights FILE")
        if weights:
            given = subject.Elsewhere(weights, weights_key, arch, mean, std, classes, data, size)
            return subject.of_weights(given, changes, out)
        assert run  # noqa: S101 - see above
        theirs = {"--weights-key": weights_key, "--arch": arch, "--mean": mean, "--std": std, "--classes": classes}
        if odd := [name for name, value in {**theirs, "--data": data, "--size": size}.items() if value is not None]:
            raise UserError(
                f"{odd[0]} is for --weights, not for the run {run}; its settings are changed as key=value, "
                f"e.g. data.path=data/cifar10"
            )
        return subject.of_run(run, changes, out)

    # Attacks allreduce nothing for seconds: Horovod's thread need not wake a thousand times in each.
    os.environ.setdefault("HOROVOD_CYCLE_TIME", "20")
    world = comm.init()
    measured = comm.raise_on_all_ranks(what)
    if corruptions:
        _corrupted(measured, corruptions, world, overwrite, json)
        return
    result, place = measure(measured, world, save_images, overwrite)
    if world.is_root:
        _print(result, place.path)
    comm.on_root(lambda: options.write_json(json, result))


def _corrupted(what: Any, folder: Path, world: Any, overwrite: bool, json: Path | None) -> None:
    from hpcfast.distributed import comm
    from hpcfast.evaluation.session import measure_corruptions

    result = measure_corruptions(what, folder, world, overwrite)
    if world.is_root:
        for sentence in [*what.said, *result["said"]]:
            print(sentence)
        for name, accuracy in result["by_corruption"].items():
            print(f"{name:20} {accuracy:.4f}")
        print(f"{'mean':20} {result['mean']:.4f}")
    comm.on_root(lambda: options.write_json(json, result))


def _print(result: dict[str, Any], folder: Path) -> None:
    for key in ("clean_accuracy", "robust_accuracy"):
        low, high = result["ci95"][key]
        print(f"{key:16} {result[key]:.4f}   95 % interval {low:.4f} to {high:.4f}")
    for point in result["curve"] if len(result["curve"]) > 1 else ():
        low, high = point["ci95"]
        print(f"  eps {point['eps']:<10g} {point['robust_accuracy']:.4f}   {low:.4f} to {high:.4f}")
    print(f"{'attack':16} {result['attack']}, {result['n_eval']} images, {result['seconds']:.1f} s")
    for sign in result["masking"]["signs"]:
        print(f"warning: masked gradients? {sign}: this robust accuracy may be far too high")
    print(f"{'kept in':16} {folder}")
