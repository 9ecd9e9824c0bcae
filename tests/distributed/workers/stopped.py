"""Sums over all ranks for ever; rank RANK stops itself once the ranks know one another: ``stopped.py RANK``."""

import os
import signal
import sys
import time

import torch

from hpcfast.distributed import comm, launcher

launcher.prepare()
world = comm.init()
step = 0
while True:
    step += 1
    comm.set_status(step, "summing")
    if world.rank == int(sys.argv[1]) and comm.peers():
        print(f"rank {world.rank} of pid {os.getpid()} stops at {time.time():.1f} s", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    comm.total(torch.ones(1, dtype=torch.float64))
