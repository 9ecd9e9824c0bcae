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

Counter = Callable[[], float | None]
"""Joules since some moment; None where they cannot be read."""


class Meter:
    """Adds up what this rank answers for, as ``by`` ("nvml" or "rapl") counts it."""

    def __init__(self, counter: Counter, by: str) -> None:
        self.by, self._counter, self._last = by, counter, counter()

    def take(self) -> float | None:
        """Joules since the last call, or since the beginning."""
        before, self._last = self._last, self._counter()
        return None if before is None or self._last is None else self._last - before


def find(world: World) -> Meter:
    """The meter of this rank: its GPU's, else for the first rank of a node its processors', else nothing to add."""
    if world.device.type == "cuda":
        return Meter(nvml(str(torch.cuda.get_device_properties(world.device).uuid)), "nvml")
    if world.local_rank:
        return Meter(lambda: 0.0, "rapl")
    return Meter(Rapl(POWERCAP), "rapl")


def nvml(uuid: str) -> Counter:
    """The counter of a GPU (Volta or newer)."""
    import pynvml

    def joules() -> float | None:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3  # from millijoules
        return None

    return joules


class Rapl:
    """The counters of all processors of a node, which begin anew when they are full; read them every few minutes."""

    def __init__(self, powercap: Path) -> None:
        # Not their parts (cores, memory), which a package's counter includes; AMD's are called so too.
        named = powercap.glob("intel-rapl:*/name")
        self._last = {name.parent: 0 for name in named if name.read_text().startswith("package")}
        self._total = 0

    def __call__(self) -> float | None:
        for zone, last in self._last.items():
            try:
                now = int((zone / "energy_uj").read_text())
                if now < last:
                    self._total += int((zone / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                return None
            self._total += now - last
            self._last[zone] = now
        return self._total / 1e6 if self._last else None
