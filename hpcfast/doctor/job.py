"""What ranks share: the folder of runs, the time of day, the network."""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from hpcfast.distributed import comm
from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host, hosts

SKEW = 1.0
"""Seconds between clocks beyond which the times in events.jsonl, and of files, mislead."""
SLOW = 0.1
"""GB/s between nodes: less than a gigabit a second, hardly the network meant for it."""


def _shared(job: Job) -> str:
    """Rank 0 makes a folder that all must see and each node must write to; what went wrong, else ''. A collective."""
    place = comm.on_root(lambda: _made(job.folder))
    if isinstance(place, str):
        return place
    problem = _look(place, job)
    comm.barrier()  # until all have looked
    if job.world.is_root:  # leave no trace
        shutil.rmtree(place, ignore_errors=True)
    return problem


def _made(folder: Path) -> Path | str:
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return Path(tempfile.mkdtemp(prefix=".doctor-", dir=existing))
    except OSError as error:
        return f"cannot be written: {error}"


def _look(place: Path, job: Job) -> str:
    try:
        if not place.is_dir():
            return f"rank 0's folder in {place.parent} is not there"
        if job.world.local_rank == 0:
            (place / f"rank-{job.world.rank}").write_bytes(bytes(2**20))
    except OSError as error:
        return f"cannot be written: {error}"
    return ""


def _judge_shared(answers: Answers) -> Finding:
    wrong = [answer for answer in answers if answer.value]
    if not wrong:
        return Finding("written by every node, seen by every rank")
    cure = "give --run-dir, and runs= for training, a folder with room that you may write and that all nodes share"
    return Finding(f"{wrong[0].value} (on {hosts(wrong)})", "bad", cure)


def _clock(_: Job) -> float:
    comm.barrier()
    return time.time()


def _judge_clock(answers: Answers) -> Finding:
    """The median clock is assumed to be right."""
    nodes = [ranks[0] for ranks in by_host(answers).values()]
    if len(nodes) == 1:
        return Finding("one node", "not here")
    right = sorted(nodes, key=lambda node: float(node.value))[(len(nodes) - 1) // 2]
    wrong = max(nodes, key=lambda node: abs(node.value - right.value))
    seconds = wrong.value - right.value
    if abs(seconds) <= SKEW:
        return Finding(f"{abs(seconds):.3f} s apart at most", numbers={"seconds": seconds})
    cure = "ask the administrators to look at NTP (chrony) "
    cure += f"there, or sbatch --exclude={wrong.host}" if len(nodes) > 2 else "on both"
    told = f"{wrong.host} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} {right.host}"
    return Finding(told, "warn", cure, {"seconds": seconds})


def _allreduce(job: Job) -> tuple[int, float] | None:
    """MB of a message, and seconds of its allreduce (the median of five), on the device that trains. A collective."""
    if job.world.size == 1:
        return None
    size = 1 if job.quick else 64
    tensor, seconds = torch.ones(size * 2**18, device=job.world.device), []
    for _ in range(7):
        start = time.perf_counter()
        comm.engine().average([tensor], f"doctor.{tensor.numel()}").result()
        if tensor.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if not torch.allclose(tensor, torch.ones_like(tensor)):
        raise ArithmeticError(f"an allreduce of {size} MB of ones gave another mean")
    return size, statistics.median(seconds[2:])  # the first ones connect ranks


def _judge_allreduce(answers: Answers) -> Finding:
    """A rank that comes late makes the others wait, so the fastest rank's seconds count."""
    if answers[0].value is None:
        return Finding("one rank", "not here")
    size, seconds = min(answer.value for answer in answers)
    rate = size * 2**20 / seconds / 1e9
    numbers = {"seconds": seconds, "gb_per_second": rate}
    told = f"{size} MB in {seconds * 1000:.2f} ms, {rate:.3g} GB/s"
    if size > 1 and rate < SLOW and len(by_host(answers)) > 1:
        cure = "the ranks may talk over the wrong network: set NCCL_SOCKET_IFNAME, horovodrun --network-interfaces, or "
        return Finding(told, "warn", cure + "OMPI_MCA_btl_tcp_if_include to the fast one ('ip -br addr')", numbers)
    return Finding(told, numbers=numbers)


CHECKS = (
    Check("run directory", _shared, _judge_shared),
    Check("clocks", _clock, _judge_clock),
    Check("allreduce", _allreduce, _judge_allreduce),
)
