"""``hpcfast train`` with a fault on one rank: ``faulty_train.py KIND RANK EPOCH ARGUMENTS…``.

KIND is what happens on RANK when it is about to train EPOCH: "raise" an error, "kill" the process.
"""

import os
import signal
import sys

from hpcfast import cli
from hpcfast.train import Trainer

kind, rank, epoch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
train_epoch = Trainer._train_epoch


def with_fault(self: Trainer, *arguments: object) -> None:
    if self.world.rank == rank and self.epoch == epoch:
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("a fault made by the test")
    train_epoch(self, *arguments)


Trainer._train_epoch = with_fault
sys.argv[1:4] = []
cli.main()
