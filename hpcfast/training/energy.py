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
    """Adds up what this rank answers for."""

    def __init__(self, counter: Counter, by: str) -> None:
        self.by = by
        """ "nvml", "rapl" or "not measured"."""
        self._counter = counter
        self._last = counter()

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

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return lambda: None

    def joules() -> float | None:
        with suppress(pynvml.NVMLError):
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3  # from millijoules
        return None

    return joules


class Rapl:
    """The counters of all processors of a node, which begin anew when they are full; read them every few minutes."""

    def __init__(self, powercap: Path) -> None:
        named = [zone for zone in powercap.glob("intel-rapl:*") if (zone / "name").is_file()]
        # Not their parts (cores, memory), which a package's counter includes; AMD's are called so too.
        self._zones = [zone for zone in named if (zone / "name").read_text().startswith("package")]
        self._last = dict.fromkeys(self._zones, 0)
        self._total = 0

    def __call__(self) -> float | None:
        if not self._zones:
            return None
        for zone in self._zones:
            try:
                now = int((zone / "energy_uj").read_text())
                if now < self._last[zone]:
                    self._total += int((zone / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                return None
            self._total += now - self._last[zone]
            self._last[zone] = now
        return self._total / 1e6
