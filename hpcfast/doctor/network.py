"""Between the ranks: do their clocks agree, and how long does an allreduce take."""

import statistics
import time
from functools import partial

import torch

from hpcfast.distributed import about, comm
from hpcfast.doctor.finding import Answer, Answers, Check, Finding, Job, by_host

KB, MB = 2**10, 2**20
SIZES = {"1 KB": KB, "32 KB": 32 * KB, "1 MB": MB, "16 MB": 16 * MB, "64 MB": 64 * MB}
QUICK = MB
"""The largest size with --quick."""
ROUNDS = 10
SKEW = 1.0
"""Seconds between clocks beyond which the times in events.jsonl, and of files, mislead."""
SLOW = 0.1
"""GB/s between nodes: less than a gigabit a second, hardly the network meant for it."""


def _clock(_: Job) -> list[tuple[float, float]]:
    """When this rank entered and left each of some barriers, by its own clock. A collective."""
    times = []
    for _round in range(ROUNDS):
        entered = time.time()
        comm.barrier()
        times.append((entered, time.time()))
    return times


def _ahead(here: Answer, there: Answer) -> tuple[float, float]:
    """By how many seconds the clock of ``here`` is ahead of that of ``there``, and the error of that.

    Every rank leaves a barrier after every other entered it. So it is ahead by no more than (left here - entered
    there) and by no less than (entered here - left there), and the tightest round bounds it.
    """
    rounds = list(zip(here.value, there.value, strict=True))
    least = max(mine[0] - its[1] for mine, its in rounds)
    most = min(mine[1] - its[0] for mine, its in rounds)
    return (least + most) / 2, (most - least) / 2


def judge_clock(answers: Answers) -> Finding:
    """``value``: a (entered, left) for each barrier, seconds.

    The median clock is assumed to be right: rank 0's may be the wrong one. Of two, either may be.
    """
    nodes = [ranks[0] for ranks in by_host(answers).values()]
    if len(nodes) == 1:
        return Finding("one node", "not here")
    offsets = [_ahead(node, nodes[0])[0] for node in nodes]
    middle = statistics.median(offsets)
    right = nodes[min(range(len(nodes)), key=lambda at: abs(offsets[at] - middle))]
    skews = {node.host: _ahead(node, right) for node in nodes if node is not right}
    host = max(skews, key=lambda name: abs(skews[name][0]))
    seconds, bound = skews[host][0], max(error for _, error in skews.values())
    numbers = {"seconds": seconds, "error": bound}
    if abs(seconds) <= SKEW:
        return Finding(f"{abs(seconds):.3f} s at most, known to {bound * 1000:.1f} ms", numbers=numbers)
    way = "ahead of" if seconds > 0 else "behind"
    cure = "ask the administrators to look at NTP (chrony) "
    cure += f"there, or sbatch --exclude={host}" if len(nodes) > 2 else "on both"
    return Finding(f"{host} is {abs(seconds):.1f} s {way} {right.host}", "warn", cure, numbers)


def _allreduce(job: Job, size: int) -> float | None:
    """Seconds of an allreduce of ``size`` bytes (the median of some), on the device that trains. A collective."""
    if job.world.size == 1 or (job.quick and size > QUICK):
        return None
    tensor = torch.ones(size // 4, device=job.world.device)
    seconds = []
    for _ in range(2 + (5 if size > MB else 20)):
        start = time.perf_counter()
        about.allreduce(tensor)
        if tensor.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if not torch.allclose(tensor, torch.ones_like(tensor)):
        raise ArithmeticError(f"an allreduce of {size} bytes of ones gave another mean")
    return statistics.median(seconds[2:])  # the first ones connect ranks


def judge_allreduce(answers: Answers, size: int) -> Finding:
    """``value``: seconds; a rank that comes late makes the others wait, so the fastest rank's count."""
    if answers[0].value is None:
        return Finding("not timed: " + ("one rank" if len(answers) == 1 else "--quick"), "not here")
    seconds = min(answer.value for answer in answers)
    rate = size / seconds / 1e9
    told, numbers = f"{seconds * 1000:.2f} ms, {rate:.3g} GB/s", {"seconds": seconds, "gb_per_second": rate}
    if size >= 16 * MB and rate < SLOW and len(by_host(answers)) > 1:
        cure = "the ranks may talk over the wrong network: set NCCL_SOCKET_IFNAME, horovodrun --network-interfaces, or "
        return Finding(told, "warn", cure + "OMPI_MCA_btl_tcp_if_include to the fast one ('ip -br addr')", numbers)
    return Finding(told, numbers=numbers)


CHECKS = (
    Check("clocks", _clock, judge_clock),
    *(
        Check(f"allreduce {name}", partial(_allreduce, size=n), partial(judge_allreduce, size=n))
        for name, n in SIZES.items()
    ),
)
