"""GPUs: seen, healthy, and one for each rank without hiding the others. Not run on a machine with several."""

import os
import shutil
import subprocess
from collections import Counter
from functools import cache
from typing import NamedTuple

import torch

from hpcfast.distributed import about
from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host, same

QUERY = "uuid,driver_version,ecc.errors.uncorrected.volatile.total"
NONE = Finding("no GPU on any node", "not here")


class Gpus(NamedTuple):
    """What torch sees, and which of it is this rank's."""

    number: int
    name: str = ""
    mine: str = ""
    """The UUID of this rank's GPU."""
    reaches_all: bool = True
    nccl: bool = True
    """Whether Horovod was built with NCCL."""


@cache
def _smi() -> tuple[tuple[str, ...], ...]:
    """What the driver says: (uuid, version, errors) of each GPU of the node; nothing without a driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"nvidia-smi: {(done.stdout + done.stderr).strip()[:200]}")
    return tuple(tuple(word.strip() for word in line.split(",")) for line in done.stdout.splitlines() if "," in line)


def _gpus(job: Job) -> Gpus:
    if not torch.cuda.is_available():
        return Gpus(0)
    count, own = torch.cuda.device_count(), torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(own)
    reached = all(torch.cuda.can_device_access_peer(own, other) for other in range(count) if other != own)
    uuid = str(getattr(properties, "uuid", f"{os.environ.get('CUDA_VISIBLE_DEVICES')}/{own}"))
    return Gpus(count, properties.name, uuid, reached, "NCCL" in about.features())


def judge_gpus(answers: Answers) -> Finding:
    """``value``: Gpus."""
    if not any(answer.value.number for answer in answers):
        return NONE
    if not all(answer.value.nccl for answer in answers):
        cure = "'rm -r .venv' and scripts/setup where torch is a CUDA build; without NCCL gradients go through the CPU"
        return Finding("Horovod was built without NCCL", "bad", cure)
    names = [answer._replace(value=f"{answer.value.number} x {answer.value.name}") for answer in answers]
    return same(names, "take nodes of one kind (sbatch --constraint, --gpus-per-node), and a driver that works on all")


def judge_binding(answers: Answers) -> Finding:
    """``value``: Gpus."""
    if not any(answer.value.number for answer in answers):
        return NONE
    for host, ranks in by_host(answers).items():
        counts, owners = {answer.value.number for answer in ranks}, Counter(answer.value.mine for answer in ranks)
        uuid, users = owners.most_common(1)[0]
        cure = "start as many ranks a node as it has GPUs"
        if len(ranks) > 1 and counts == {1} and len(owners) > 1:
            told = f"each rank of {host} sees only its own GPU, so that NCCL can't reach the others"
            cure = "let each rank see all GPUs of its node: srun without --gpus-per-task and --gpu-bind (take "
            cure += "--gpus-per-node), and set no CUDA_VISIBLE_DEVICES; hpcfast takes the GPU of its local rank"
            return Finding(told, "bad", cure)
        if users > 1:
            return Finding(f"{users} ranks of {host} use one GPU ({uuid})", "bad", cure)
        if len(ranks) < max(counts):
            told = f"{host} has {max(counts)} GPUs and {len(ranks)} ranks"
            return Finding(told, "warn", f"{cure}: the others are idle")
        if not all(answer.value.reaches_all for answer in ranks):
            cure = "fine for training, but slower; if the GPUs have NVLink, look at 'nvidia-smi topo -m'"
            return Finding(f"GPUs of {host} can't reach one another directly", "warn", cure)
    return Finding("a GPU for each rank, peers within reach")


def judge_health(answers: Answers) -> Finding:
    """``value``: rows of QUERY."""
    for host, ranks in by_host(answers).items():
        for uuid, _, errors in (row for answer in ranks for row in answer.value):
            if errors.isdigit() and int(errors):  # "[N/A]" without ECC
                cure = f"leave the node out (sbatch --exclude={host}) and tell the administrators"
                return Finding(f"{errors} uncorrected memory errors in {uuid} of {host}", "bad", cure)
    rows = [row for answer in answers for row in answer.value]
    return Finding("no uncorrected memory errors") if rows else NONE


def judge_driver(answers: Answers) -> Finding:
    """``value``: versions of the driver, and whether torch can use it."""
    if not any(versions for _, _, (versions, _), _ in answers):
        return NONE
    for _, host, (versions, usable), _ in answers:
        if versions and not usable:
            cure = f"torch needs a driver for CUDA {torch.version.cuda}: ask the administrators; or "
            cure += "CUDA_VISIBLE_DEVICES hides all GPUs: unset it"
            return Finding(f"{versions[0]} on {host}, and torch sees no GPU", "bad", cure)
    versions = [answer._replace(value=", ".join(answer.value[0]) or "none") for answer in answers]
    return same(versions, "take nodes with one driver, or ask the administrators")


def _driver(_: Job) -> tuple[tuple[str, ...], bool]:
    return tuple(sorted({row[1] for row in _smi()})), torch.cuda.is_available()


CHECKS = (
    Check("GPU driver", _driver, judge_driver),
    Check("GPUs", _gpus, judge_gpus),
    Check("GPU binding", _gpus, judge_binding),
    Check("GPU health", lambda _: _smi(), judge_health),
)
