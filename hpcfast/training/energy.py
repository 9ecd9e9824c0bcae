"""Joules: what GPUs (NVML) or processors (RAPL) say that they have used.

A GPU's counter is read by its rank, the processors' by one rank a node. On Linux only root may read RAPL, unless the
site allows it.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from hpcfast.distributed.comm import World

POWERCAP = Path("/sys/class/powercap")
UNMEASURED = "not measured"

Counters = Callable[[], list[tuple[int, int]] | None]
"""Microjoules of each counter, and at how many it begins anew; None where they cannot be read."""


class Meter:
    """Adds up the counters that this rank answers for; ``by`` is "nvml" or "rapl". Read it every few minutes."""

    def __init__(self, counters: Counters, by: str) -> None:
        self.by, self._counters, self._last = by, counters, counters()

    def take(self) -> float | None:
        """Joules since the last call, or since the beginning."""
        before, self._last = self._last, self._counters()
        if before is None or self._last is None:
            return None
        return sum((now - then) % full for (then, _), (now, full) in zip(before, self._last, strict=True)) / 1e6


def find(world: World) -> Meter:
    """The meter of this rank: its GPU's, else for the first rank of a node its processors', else nothing to add."""
    if world.device.type == "cuda":
        return Meter(nvml(str(torch.cuda.get_device_properties(world.device).uuid)), "nvml")
    return Meter(list if world.local_rank else rapl(POWERCAP), "rapl")


def nvml(uuid: str) -> Counters:
    """The counter of a GPU (Volta or newer)."""
    import pynvml

    def read() -> list[tuple[int, int]] | None:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            return [(1000 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 2**64)]
        return None

    return read


def rapl(powercap: Path) -> Counters:
    """The counters of all processors of a node."""
    # Not their parts (cores, memory), which a package's counter includes; AMD's are called so too.
    zones = [name.parent for name in powercap.glob("intel-rapl:*/name") if name.read_text().startswith("package")]

    def number(file: Path) -> int:
        return int(file.read_text())

    def read() -> list[tuple[int, int]] | None:
        with suppress(OSError, ValueError):
            return [(number(zone / "energy_uj"), number(zone / "max_energy_range_uj")) for zone in zones] or None
        return None

    return read
