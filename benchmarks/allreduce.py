"""Gradients of ResNet-18 between two ranks of one machine, by `hpcfast bench allreduce`; wall time only.

What a step exposes is in the table of two ranks, beside DistributedDataParallel.
"""

import json
from typing import Any

from benchmarks import Bench
from benchmarks.ranks import launch
from benchmarks.table import Row
from hpcfast.bench import Spread

TITLE = "Allreduce"


def rows(bench: Bench) -> list[Row]:
    """Measure."""
    out = bench.place / "allreduce.part"
    tiny = ["--model", "cifar_resnet8", "--repeats", "1"] if bench.short else []
    launch("horovod", "hpcfast", "bench", "allreduce", "--json", str(out), *tiny)
    found = json.loads(out.read_text())
    out.unlink()
    return compared(found)


def compared(found: dict[str, Any]) -> list[Row]:
    """The rows of what ``hpcfast bench allreduce`` found; spreads are of the extremes of both."""
    whole, half = found["gradients"]
    n = found["n"]
    line = found["latency_seconds"] + found["gradient_bytes"] / found["bytes_per_second"]
    fp16 = Spread(
        half["seconds"] / whole["seconds"],
        half["spread"][0] / whole["spread"][1],
        half["spread"][1] / whole["spread"][0],
    )
    fused = Spread(*(seconds / line for seconds in (whole["seconds"], *whole["spread"])))
    return [
        Row("gradients as fp16", "gradients as fp32", None, fp16, n, "conversion on the rank's own core", 0.5),
        Row("all gradients, fused", "one tensor of as many bytes", None, fused, n, "copies into the buffer and back; "
            "how often Horovod looks for tensors", 1.0),
    ]  # fmt: skip
