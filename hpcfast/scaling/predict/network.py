"""Communication as ``hpcfast bench allreduce`` measured it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from hpcfast.errors import UserError


@dataclass(frozen=True)
class Network:
    """``latency`` of a message in seconds, ``bandwidth`` in bytes a second, ``size`` of the gradient in bytes."""

    latency: float
    bandwidth: float
    size: float
    overlap: float = 0.4
    """Of a step's compute, the part that can hide communication: two of five passes over the network, if the attack has
    one step. An attack's own backward pass sends nothing."""

    def seconds(self, ranks: int) -> float:
        """Of Rabenseifner's allreduce, none of it hidden: recursive halving, then doubling.

        As Thakur, Rabenseifner and Gropp 2005 have it ("Optimization of Collective Communication Operations in MPICH"):
        a message of m bytes takes latency + m / bandwidth; additions hide in the bandwidth that is measured. A ring's
        traffic is the same, and NCCL's double binary tree has the same two terms.
        """
        return _messages(ranks) * self.latency + _passes(ranks) * self.size / self.bandwidth


def read(path: Path) -> Network:
    """Turn latency and bandwidth of whole allreduces into those of one message, as a tree sends them.

    Raises:
        UserError: the file is not what ``bench allreduce`` writes, or it is of one rank.
    """
    try:
        numbers = json.loads(path.read_text())
        ranks, size = int(numbers["ranks"]), float(numbers["gradient_bytes"])
        latency, bandwidth = float(numbers["latency_seconds"]), float(numbers["bytes_per_second"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"--allreduce {path}: not what 'hpcfast bench allreduce --json' writes: {wrong}") from None
    if ranks < 2:
        raise UserError(f"--allreduce {path}: measured with {ranks} rank; start bench allreduce with two or more")
    return Network(latency / _messages(ranks), bandwidth * _passes(ranks), size)


def _messages(ranks: int) -> int:
    return 2 * math.ceil(math.log2(ranks))


def _passes(ranks: int) -> float:
    """Times that the gradient passes a rank's link."""
    return 2 * (ranks - 1) / ranks
