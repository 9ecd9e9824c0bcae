"""The faults by name. Each is a function: its block does it to a rank, its node or the job, and its end mends it."""

from dataclasses import dataclass

from .files import fill, half_checkpoint, half_image, read_only
from .job import Inject
from .nodes import daemon, drain, part, power, preempt, send, slow_network, unplug
from .ranks import kill, poke, slow_rank, starve, stop

GONE = r"rank {rank} on host {node} .*silent|[Nn]ode failure on {node}|no answer from \S*{node}"


@dataclass(frozen=True)
class Kind:
    """A fault, and what should be said of it."""

    inject: Inject
    seconds: float = 0
    """Until it is mended."""
    said: str = ""
    """A pattern of the job's log or of an event; {rank} and {node} are where it names the culprit. Empty: nothing."""
    person: bool = False
    """Whether only a person can mend it: the job ends."""


KINDS = {
    "rank killed": Kind(kill, said=r"rank {rank} on host {node} was killed, by somebody"),
    "rank stopped": Kind(stop, said=r"rank {rank} on host {node} .*has been silent for 1\d s"),
    "slow rank": Kind(slow_rank, 30, said=r"stragglers.*rank {rank} on {node}"),
    "out of memory": Kind(starve, 20, said=r"rank {rank} on host {node} was killed, out of memory"),
    "no number on a rank": Kind(poke("nan"), said=r"training has diverged: the loss is nan .*on rank {rank}"),
    "clock an hour ahead": Kind(poke("clock 3600"), 20),
    "clock an hour behind": Kind(poke("clock -3600"), 20),
    "slurmd killed": Kind(daemon, 40, said=r"JOB \d+ ON \S+ CANCELLED .*NODE FAILURE|[Nn]ode failure on {node}"),
    "node lost": Kind(power, 40, said=GONE),
    "node cut off": Kind(unplug, 40, said=GONE),
    "two nodes parted": Kind(part, 8),
    "slow network": Kind(slow_network, 15),
    "USR2": Kind(send("USR2"), said=r"USR2: stopping"),
    "TERM": Kind(send("TERM"), said=r"TERM: stopping"),
    "preempted": Kind(preempt, 25, said=r"TERM: stopping"),
    "node drained": Kind(drain, 20),
    "disk full": Kind(fill, 20, said=r"No space left on device", person=True),
    "checkpoints read-only": Kind(read_only, 20, said=r"Read-only file system", person=True),
    "half an image": Kind(half_image, 20),
    "half a checkpoint": Kind(half_checkpoint, said=r"checkpoint .* cannot be read"),
}
