"""What ``hpcfast bench allreduce --json`` says of the network."""

import json
import math
from pathlib import Path

from hpcfast.errors import UserError
from hpcfast.scaling.predict.model import Link, Network


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
    messages, passes = 2 * math.ceil(math.log2(ranks)), 2 * (ranks - 1) / ranks
    return Network(Link(latency / messages, bandwidth * passes), size)
