"""Signs that a model hides its gradients, so that attacks fail where the model is weak.

After Athalye, Carlini and Wagner (ICML 2018) and Carlini et al., "On Evaluating Adversarial Robustness" (2019):
gradients that vanish; one step that does better than many; a search without gradients that finds what gradients
missed; a model that withstands a ball which holds every image.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hpcfast.attacks import Attack, input_gradient
from hpcfast.attacks.fgsm_rs import FgsmRs
from hpcfast.attacks.pgd import Pgd
from hpcfast.attacks.square import Square
from hpcfast.config import RunConfig
from hpcfast.data import Batch
from hpcfast.data.split import Split, spread
from hpcfast.distributed import comm
from hpcfast.distributed.comm import World
from hpcfast.evaluation import Pieces, attacked, batch_size, evaluating, shared_out
from hpcfast.evaluation.outcomes import Journal, Outcomes, Round

IMAGES = 128
SLACK = 0.03, 2
"""Share and number of the images that may contradict by chance: attacks are random, and none is perfect."""
BATCH = 32
"""Images, at most: Square takes its 500 queries at all of a batch, and a signal waits for them."""
ATTACKS = 1 + 2 + 1
"""That are made on each image, at most."""
MANY = Pgd(name="pgd", steps=20)
ONE = FgsmRs(name="fgsm_rs", start="zero")
BLACK_BOX = Square(name="square", queries=500)


def some(ids: np.ndarray, world: World) -> np.ndarray:
    """Up to ``IMAGES`` of the images ``ids``, evenly spread; at least one a rank."""
    return ids[spread(len(ids), max(IMAGES, world.size))]


def look(
    model: nn.Module,
    split: Split,
    ids: np.ndarray,
    config: RunConfig,
    world: World,
    progress: Callable[[int], None] = lambda done: None,
    kept: Path | None = None,
) -> dict[str, Any]:
    """Look for signs of masked gradients at the images ``ids``; a collective of all ranks.

    Args:
        progress: see :func:`hpcfast.evaluation.attacked`; of ``ATTACKS`` on each image.
        kept: a folder where what was done is noted, so that a look that was stopped resumes; the caller removes it.

    Returns:
        ``suspicious``, ``signs`` (sentences), ``n`` (images that are classified rightly as they are) and, as
        fractions of them, ``zero_gradients``, ``one_step`` and ``many_steps`` (fooled by FGSM and by PGD-20),
        ``black_box`` (fooled by Square where PGD-20 failed) and ``any_image`` (still held where the ball holds every
        image).
    """
    small = config.evaluation.model_copy(update={"batch_size": min(BATCH, config.evaluation.batch_size)})
    config = config.model_copy(update={"evaluation": small})
    pixels = config.data.channels * config.data.size**2
    radius_of_all = {"Linf": 1.0, "L2": math.sqrt(pixels), "L1": float(pixels)}[config.threat.norm]
    before = 0

    def fooled(name: str, *attacks: Attack, eps: float = config.threat.eps) -> Outcomes:
        nonlocal before
        ball = config.threat.model_copy(update={"eps": eps}).ball
        planned = [Round(attack.name, ball, attack.perturb) for attack in attacks]
        journal = Journal(kept / name, world.rank) if kept else None
        found = attacked(model, split, ids, planned, config, world, lambda done: progress(before + done), journal)
        before += len(ids) * len(planned)
        return found

    single, thorough = fooled("one", ONE), fooled("many", MANY, BLACK_BOX)
    everything = fooled("any", MANY, eps=radius_of_all)
    n = int(single.right.sum())
    if n == 0:
        return {"suspicious": False, "signs": [], "n": 0}
    shares = {
        "zero_gradients": _vanished(model, split, config, world, ids) / n,
        "one_step": single.broken(0) / n,
        "many_steps": thorough.broken(0) / n,
        "black_box": thorough.broken(1) / n,
        "any_image": 1 - everything.broken(0) / n,
    }
    signs = _signs(shares, max(SLACK[0], SLACK[1] / n))
    return {"suspicious": bool(signs), "signs": signs, "n": n, **shares}


def _signs(shares: dict[str, float], slack: float) -> list[str]:
    zero, one, many, black_box, held = shares.values()
    signs = [
        (zero, f"{zero:.0%} of the images have no input gradient"),
        (one - many, f"one step fools the model on {one:.0%} of the images, twenty on only {many:.0%}"),
        (black_box, f"a search without gradients (Square) fools it on {black_box:.0%} of the images, PGD did not"),
        (held, f"it withstands PGD on {held:.0%} of the images even where every change is allowed"),
    ]
    return [sign for size, sign in signs if size > slack]


def _vanished(model: nn.Module, split: Split, config: RunConfig, world: World, ids: np.ndarray) -> int:
    """Images classified rightly whose input gradient is zero altogether."""

    def vanished(batch: Batch) -> int:
        with torch.no_grad():
            right = model(batch.x).argmax(1) == batch.y
        flat = input_gradient(model, batch.x, batch.y).flatten(1)
        return int((right & ~flat.any(1)).sum())

    count = 0
    with evaluating(model):
        pieces = Pieces(batch_size([model], config, world))
        for batch in shared_out(split, ids, pieces.most, config, world):
            count += sum(pieces.each(vanished, batch))
    return int(comm.total(torch.tensor(count)))
