"""What ranks tell one another at the end of an epoch: how fast each was by itself, its gradients' noise, its joules."""

import platform
import re
import socket
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hpcfast.distributed import comm
from hpcfast.training import energy
from hpcfast.training.noise_scale import NoiseScale

SLOW = 1.2
"""How many times the median step a straggler's takes."""

ENOUGH = 10.0
"""Seconds of steps that a judgement takes: over less, ranks are called slow that are only unlucky."""

Noise = tuple[float, float, int]
"""See :meth:`hpcfast.training.noise_scale.NoiseScaleMeter.take`."""


class Report(NamedTuple):
    """One rank's, since its last."""

    host: str
    hardware: str
    slots: int
    """Ranks that its host has a GPU for, or cores for their threads."""
    seconds: float
    """Spent in steps, waiting for other ranks left out."""
    noise: Noise
    joules: float | None
    by: str


class RankStats:
    """Totals over ranks, the same on each; ``noise_scale`` and ``joules`` are part of the checkpoint."""

    def __init__(self, world: comm.World) -> None:
        self.noise_scale = NoiseScale()
        self.joules: float | None = 0.0
        """Over all nodes; None where some of it was not measured."""
        self.by = energy.UNMEASURED
        self._reports: list[Report] = []
        self._hardware, self._slots = _hardware(world), _slots(world)
        self._meter = energy.find(world)
        self._seconds, self._unjudged = np.zeros(world.size), np.zeros(world.size)

    def take(self, seconds: float, noise: Noise, small: int, large: int) -> list[str]:
        """Add up all ranks' reports; a collective.

        Args:
            seconds: that this rank has spent in steps since the last call, without waiting for others.
            noise: what this rank's meter has measured, in batches of ``small`` images and steps of ``large``.

        Returns:
            The stragglers since ranks were last judged, in words; none where that is less than ``ENOUGH``.
        """
        meter = self._meter
        mine = Report(socket.gethostname(), self._hardware, self._slots, seconds, noise, meter.take(), meter.by)
        everyone = self._reports = [*map(Report._make, comm.gather(tuple(mine)))]
        used = [report.joules for report in everyone if report.joules is not None]
        if self.joules is None or len(used) < len(everyone):
            self.joules, self.by = None, energy.UNMEASURED
        else:
            self.joules, self.by = self.joules + sum(used), everyone[0].by
        _, mean, n = noise
        if n:
            local = statistics.fmean(report.noise[0] for report in everyone)
            self.noise_scale.add(local, mean, n, small, large)
        for sums in (self._seconds, self._unjudged):
            sums += [report.seconds for report in everyone]
        slow = self._slow(self._unjudged)
        if self._unjudged.min() >= ENOUGH:
            self._unjudged[:] = 0
        return slow

    @property
    def stragglers(self) -> list[str]:
        """Ranks that were slow over all that this process has seen."""
        return self._slow(self._seconds)

    def _slow(self, seconds: np.ndarray) -> list[str]:
        if seconds.min() < ENOUGH:
            return []
        # Of two ranks the median is the faster: half the ranks are no slower than it.
        typical = statistics.median_low(seconds)
        return [
            f"rank {rank} on {report.host}: {own / typical:.1f} times the median step"
            for rank, (report, own) in enumerate(zip(self._reports, seconds, strict=True))
            if own > SLOW * typical
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"noise_scale": asdict(self.noise_scale), "joules": self.joules}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.noise_scale = NoiseScale(**state.get("noise_scale", {}))
        self.joules = state.get("joules", 0.0)

    def summary(self) -> dict[str, Any]:
        """The keys of ``summary.json``."""
        return {
            "noise_scale": self.noise_scale.images,
            "noise_scale_measurements": self.noise_scale.n,
            "stragglers": self.stragglers,
            "joules": self.joules,
            "joules_by": self.by,
            "nodes": len(slots := {report.host: report.slots for report in self._reports}),
            "slots": sum(slots.values()),
            "hardware": " and ".join(sorted({report.hardware for report in self._reports})),
        }


def _hardware(world: comm.World) -> str:
    """What this rank computes on."""
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    named = re.search(r"^model name\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    name, threads = named[1].strip() if named else platform.machine(), torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''} a rank"


def _slots(world: comm.World) -> int:
    if world.device.type == "cuda":
        return torch.cuda.device_count()
    return world.cores // torch.get_num_threads()
