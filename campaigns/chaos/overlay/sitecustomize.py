"""What a rank of the campaign loads before hpcfast, which knows nothing of it: steps of a given length, and pokes.

Each step of the optimizer lasts ``CHAOS_PACE`` seconds at least: a large network's, without its work. On SIGUSR1 the
process reads words in the file ``CHAOS_POKES/PID``: "nan", and its next gradient is no number; "clock SECONDS", and
``time.time`` is so far off from then on; "memory BYTES", and it takes so much.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

PACE = float(os.environ.get("CHAOS_PACE", "0"))


class Pokes:
    """What was done to this process."""

    poisoned = within = False
    ahead = stepped = 0.0
    taken = b""

    def read(self, number: int, frame: FrameType | None) -> None:
        match (Path(os.environ["CHAOS_POKES"]) / str(os.getpid())).read_text().split():
            case ["nan"]:
                self.poisoned = True
            case ["clock", seconds]:
                self.ahead = float(seconds)
            case ["memory", size]:
                self.taken = b"\1" * int(size)

    def before_step(self, optimizer: Any, *_: object) -> None:
        """Wait in Horovod's step, which calls this once more for the optimizer's own: there, poison a gradient."""
        self.within = not self.within
        if self.within:
            time.sleep(max(0.0, self.stepped + PACE - time.monotonic()))
            self.stepped = time.monotonic()
        elif self.poisoned:
            self.poisoned = False
            optimizer.param_groups[0]["params"][0].grad.fill_(float("nan"))


def hook(pokes: Pokes) -> None:
    """Once torch is imported, have it call us; we must not import it, hpcfast sets variables before."""
    while not hasattr(sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_pre_hook"):
        time.sleep(0.02)
    sys.modules["torch.optim.optimizer"].register_optimizer_step_pre_hook(pokes.before_step)


if "SLURM_STEP_ID" in os.environ and sys.orig_argv[1:3] and sys.orig_argv[1].endswith("hpcfast"):
    pokes, true = Pokes(), time.time
    signal.signal(signal.SIGUSR1, pokes.read)
    time.time = lambda: true() + pokes.ahead
    threading.Thread(target=hook, args=(pokes,), daemon=True).start()
