"""The configuration that ``hpcfast init`` proposes for images of one's own."""

import json
from bisect import bisect
from pathlib import Path

from hpcfast.datasets.survey import Survey

RECIPES = {
    "fast": "{name: nfgsm}",
    "published": "{name: fgsm_rs}",
    "pgd7": "{name: pgd, steps: 7}",
    "standard": "{name: standard}",
}
SMALL, FEW, UNEVEN = 48, 1000, 1.5
"""Pixels a side up to which a network for small images serves; training images below which numbers are rough; how many
times as many images the largest class may have as the smallest before losses are weighted."""
LEAST = 5
"""Training images that most classes must have: from fewer nothing can be learnt, and there may be no batch."""


def text(found: Survey, place: Path, norm: str, recipe: str, model: str | None = None, eps: str | None = None) -> str:
    """The configuration for what was ``found`` in ``place``, as YAML with comments.

    Args:
        norm: ``Linf`` or ``L2``.
        recipe: one of ``RECIPES``.
        model: None: by the images' size, as is ``eps``.
    """
    small = found.sides[1] <= SMALL
    sizes = (28, 32) if small else (64, 128, 224)
    size = sizes[found.sides[1] > 28 if small else bisect([5_000, 50_000], found.train)]
    network = model or ("cifar_resnet20" if small else "resnet18")
    length = eps or {"Linf": "8/255" if small else "4/255"}.get(norm, f"{3 * size / 224:.2g}")
    epochs = min(30, max(15, round(60_000 / found.train)))
    few = found.train < FEW
    augment = "pad_crop_flip" if small else "resized_crop_flip"
    lines = [
        f"# For {found.train:,} images of {len(found.classes)} classes. 'hpcfast config schema' lists all keys.",
        "# The changes to withstand; pixels lie in [0,1].",
        f"threat: {{norm: {norm}, eps: {length}}}",
        f"# The images' shorter side has {found.sides[1]} pixels. Where left and right differ: flip: false.",
        f"data: {{path: {_quoted(place)}, channels: {found.channels}, size: {size}, batch_size: "
        f"{_batch_size(found.train)}, augment: {augment}}}",
        f"model: {{name: {network}, mean: {[*found.mean]}, std: {[*found.std]}}}",
        "# What training trains against.",
        f"attack: {RECIPES[recipe]}",
        f"epochs: {epochs}",
        "optim: {lr: 0.1, lr_batch: 128}",
        "schedule: {name: piecewise, knots: [[0, 0], [30%, 1], [100%, 0]]}",
        *(["class_weights: balanced"] if found.imbalance > UNEVEN else []),
        *(["# So few images are held out that a small gap is chance."] if few else []),
        f"guard: {{every: 5{', limit: 0.4' if few else ''}}}",
        "evaluation:",
        "  every: 5",
        "  monitor: {attack: {name: pgd, steps: 20}, images: 500}",
        "  final: {attack: {name: apgd, steps: 50}, images: 1000}",
    ]
    return "\n".join(lines) + "\n"


def _batch_size(images: int) -> int:
    """A power of two; small only where few images would not fill it, as small ones take longer."""
    return min(32 if images < 5000 else 64, max(8, 1 << (images // 3).bit_length() - 1))


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)  # YAML reads JSON's texts
