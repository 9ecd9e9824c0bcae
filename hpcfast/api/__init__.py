"""The Python interface: what ``hpcfast`` itself offers (``hpcfast.PGD``, ``hpcfast.evaluate``, …).

The same code as the commands, for one process or for every rank of a launched job: it starts no ranks itself.
"""

from hpcfast.api.attacks import APGD, FGSM, NFGSM, PGD, AutoAttack, Square
from hpcfast.api.data import Loader, loader
from hpcfast.api.measure import Evaluation, Outcome, evaluate
from hpcfast.api.runs import RobustModel, load, train
from hpcfast.errors import UserError
from hpcfast.runs.signals import Stopped

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
