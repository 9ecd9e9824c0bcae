"""One rank of ``hpcfast data stage`` on a node of two ranks, whatever the machine; prints what it opens of the pack.

The first argument is the rank that kills itself when it is about to give the second shard its name, or "none".
"""

import os
import signal
import sys
from typing import Any

from hpcfast import cli

victim, pack, to = sys.argv[1:4]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["HOROVOD_RANK"])
os.environ["HPCFAST_NODE"] = f"node{rank // 2}"


def hear(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and str(details[0]).startswith(pack) and details[0].endswith((".tar", ".npy")):
        os.write(1, f"rank {rank} opens {os.path.relpath(details[0], pack)}\n".encode())
    if event == "os.rename" and str(details[1]).endswith("shard-000001.tar") and victim == str(rank):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(hear)
sys.argv = ["hpcfast", "data", "stage", pack, to, *sys.argv[4:]]
cli.main()
