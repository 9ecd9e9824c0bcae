"""One rank of ``hpcfast ARGUMENTS…`` on a node of two ranks, whose disk is DISK: ``staged_train.py KIND PACK DISKS …``.

Prints what it opens of the folder PACK. KIND is what happens: "copying", all ranks get SIGTERM when the second node has
copied half; "training", they get it in the fourth step; "unset", the second node has no DISK; or "none".
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from hpcfast import cli
from hpcfast.training.step import Learner

kind, pack, disks = sys.argv[1:4]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["HOROVOD_RANK"])
os.environ["HPCFAST_NODE"] = f"node{rank // 2}"
if kind != "unset" or rank < 2:
    os.environ["DISK"] = f"{disks}/node{rank // 2}"
Path("pids").mkdir(exist_ok=True)
Path("pids", str(rank)).write_text(str(os.getpid()))
step, steps = Learner.step, 0


def stop_all() -> None:
    pids = [int(file.read_text()) for file in Path("pids").iterdir()]
    for pid in sorted(pids, key=os.getpid().__eq__):  # this rank the last: it ends at once
        os.kill(pid, signal.SIGTERM)


def hear(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and str(details[0]).startswith(f"{pack}/") and details[0].endswith((".tar", ".npy")):
        os.write(1, f"rank {rank} opens {os.path.relpath(details[0], pack)}\n".encode())
    if event == "os.rename" and str(details[1]).endswith("val/shard-000000.tar") and (kind, rank) == ("copying", 2):
        stop_all()


def counted(self: Learner, *arguments: Any) -> Any:
    global steps
    steps += 1
    if (kind, rank, steps) == ("training", 2, 4):
        stop_all()
    return step(self, *arguments)


sys.addaudithook(hear)
Learner.step = counted
sys.argv[1:4] = []
cli.main()
