"""Fast adversarial training of robust image classifiers, on one machine or many nodes.

The system of Goodwin, Brown and Helus, "Fast Training of Deep Neural Networks Robust to Adversarial
Perturbations" (IEEE HPEC 2020, arXiv 2007.03832): one-step adversarial training with a random start, for the
L-infinity and the Euclidean norm, distributed over ranks. The command is ``hpcfast --help``. From Python::

    import hpcfast

    model = hpcfast.load("runs/digits_l2")
    x_adv = hpcfast.PGD(model, eps=0.5, norm="L2")(x, y)
    print(hpcfast.evaluate(model, (x, y), eps=0.5, norm="L2"))

The names in ``__all__`` are the stable interface. They are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcfast.api import (
        APGD,
        FGSM,
        NFGSM,
        PGD,
        AutoAttack,
        Evaluation,
        Loader,
        Outcome,
        RobustModel,
        Square,
        Stopped,
        UserError,
        evaluate,
        load,
        loader,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "APGD",
    "FGSM",
    "NFGSM",
    "PGD",
    "AutoAttack",
    "Evaluation",
    "Loader",
    "Outcome",
    "RobustModel",
    "Square",
    "Stopped",
    "UserError",
    "evaluate",
    "load",
    "loader",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("hpcfast.api"), name)
    raise AttributeError(f"module 'hpcfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
