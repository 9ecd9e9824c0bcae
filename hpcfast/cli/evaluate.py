"""``hpcfast eval``."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcfast.cli import options

_foreign = partial(typer.Option, rich_help_panel="Weights from elsewhere, instead of RUN")

EXAMPLES = options.examples(
    "hpcfast eval runs/digits_l2 --attack apgd --images 500",
    "hpcfast eval --weights resnet50.pt --data data/imagenet --size 224 --eps 4/255",
)


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
    weights: Annotated[Path | None, _foreign(help="state dict or checkpoint")] = None,
    weights_key: Annotated[str | None, _foreign(help="where in the file they are, e.g. state_dict_ema")] = None,
    arch: Annotated[str | None, _foreign(help="its network, e.g. resnet50")] = None,
    mean: Annotated[str | None, _foreign(help="of pixels, e.g. 0.485,0.456,0.406")] = None,
    std: Annotated[str | None, _foreign(help="of pixels, e.g. 0.229,0.224,0.225")] = None,
    classes: Annotated[Path | None, _foreign(help="text file, a class a line, in the network's order")] = None,
    data: Annotated[Path | None, _foreign(help="folder with train/ and val/")] = None,
    size: Annotated[int | None, _foreign(help="of images, pixels")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for results; default: RUN/evaluations")] = None,
    trust_code: options.TrustCode = False,
    json: options.Json = None,
) -> None:
    """Measure clean and robust accuracy, over any number of ranks; by default as the run's config says.

    Stopped or killed, the same command resumes; what was measured before is shown again.
    """
    with options.quick_imports():
        from hpcfast.config import Option
        from hpcfast.distributed import comm
        from hpcfast.evaluation import session
        from hpcfast.runs.names import in_lines

    settings = list(overrides or [])
    if run and "=" in str(run):  # without RUN a setting stands in its place
        settings, run = [str(run), *settings], None
    chosen = {
        "evaluation.final.attack.name": ("--attack", attack),
        "evaluation.final.attack.steps": ("--steps", steps),
        "evaluation.final.attack.restarts": ("--restarts", restarts),
        "evaluation.final.attack.version": ("--version", version),
        "evaluation.final.images": ("--images", images),
        "threat.norm": ("--norm", norm),
        "threat.eps": ("--eps", eps),
    }
    given = [Option.of(option, value, key) for key, (option, value) in chosen.items() if value is not None]
    if curve is not None:
        given.append(Option.of("--curve", curve, "evaluation.final.curve", f"[{curve}]"))
    settings = [*given, *settings]
    elsewhere = session.Elsewhere(weights_key, arch, mean, std, classes, data, size)
    # Attacks allreduce nothing for seconds: Horovod's thread need not wake a thousand times in each.
    os.environ.setdefault("HOROVOD_CYCLE_TIME", "20")
    world = comm.init()
    with options.blaming("--data" if data else "data.path", "data.path"):
        what = comm.raise_on_all_ranks(lambda: session.named(run, weights, elsewhere, settings, out))
    if corruptions:
        result = session.measure_corruptions(what, corruptions, world, overwrite)
        accuracies = [*result["by_corruption"].items(), ("mean", result["mean"])]
        printed = [*what.said, *result["said"], *(f"{name:20} {accuracy:.4f}" for name, accuracy in accuracies)]
    else:
        result, place = session.measure(what, world, save_images, overwrite)
        printed = [*_attacked(result), f"{'kept in':16} {place}"]
    if world.is_root:
        print(*map(in_lines, printed), sep="\n")
    comm.on_root(lambda: options.write_json(json, result))


def _attacked(result: dict[str, Any]) -> list[str]:
    from hpcfast.report.format import attack_spelled_out, count, duration

    lines = []
    for key in ("clean_accuracy", "robust_accuracy"):
        low, high = result["ci95"][key]
        lines.append(f"{key:16} {result[key]:.4f}   95 % interval {low:.4f} to {high:.4f}")
    if classes := [each for each in result.get("classes", []) if each["images"]]:
        balanced, worst = result["balanced_accuracy"], min(classes, key=lambda each: each["robust_accuracy"])
        lines.append(
            f"{'mean over classes':16} clean {balanced['clean']:.4f}, robust {balanced['robust']:.4f}; worst "
            f"'{worst['name']}', robust {worst['robust_accuracy']:.4f} of {count(worst['images'], 'image')}"
        )
    for point in result["curve"] if len(result["curve"]) > 1 else ():
        low, high = point["ci95"]
        lines.append(f"  eps {point['eps']:<10g} {point['robust_accuracy']:.4f}   {low:.4f} to {high:.4f}")
    done = f"{count(result['n_eval'], 'image')}, {duration(result['seconds'])}"
    lines.append(f"{'attack':16} {attack_spelled_out(result['attack'])}, {done}")
    signs = result["masking"]["signs"]
    return [*lines, *(f"warning: masked gradients? {sign}: this robust accuracy may be far too high" for sign in signs)]
