"""GPUs: seen, and one for each rank without hiding the others."""

import os
import shutil
import subprocess
from collections import Counter
from typing import NamedTuple

import torch

from hpcfast.distributed import about
from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host, same

NONE = Finding("no GPU on any node", "not here")


class Gpus(NamedTuple):
    """What torch sees, and which of it is this rank's."""

    number: int
    name: str = ""
    mine: str = ""
    """The UUID of this rank's GPU."""
    horovod: str = "NCCL"
    """What Horovod was built with."""
    driver: str = ""
    """Its version; empty without one."""


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"nvidia-smi: {(done.stdout + done.stderr).strip()[:200]}")
    return done.stdout.partition("\n")[0].strip()


def _gpus(_: Job) -> Gpus:
    return _seen()._replace(driver=_driver())


def _seen() -> Gpus:
    if not torch.cuda.is_available():
        return Gpus(0)
    count, own = torch.cuda.device_count(), torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(own)
    uuid = str(getattr(properties, "uuid", f"{os.environ.get('CUDA_VISIBLE_DEVICES')}/{own}"))
    return Gpus(count, properties.name, uuid, about.features())


def judge_gpus(answers: Answers) -> Finding:
    """``value``: Gpus."""
    for answer in answers:
        if answer.value.driver and not answer.value.number:
            told = f"driver {answer.value.driver} on {answer.host}, and torch sees no GPU"
            cure = f"torch needs a driver for CUDA {torch.version.cuda}: ask the administrators; or "
            return Finding(told, "bad", cure + "CUDA_VISIBLE_DEVICES hides all GPUs: unset it")
    if not any(answer.value.number for answer in answers):
        return NONE
    if any(answer.value.number and "NCCL" not in answer.value.horovod for answer in answers):
        cure = "'rm -r .venv' and scripts/setup where torch is a CUDA build; without NCCL gradients go through the CPU"
        return Finding("Horovod was built without NCCL", "bad", cure)
    names = [answer._replace(value="{0} x {1}, driver {4}".format(*answer.value)) for answer in answers]
    return same(names, "take nodes of one kind (sbatch --constraint, --gpus-per-node), with one driver")


def judge_binding(answers: Answers) -> Finding:
    """``value``: Gpus."""
    if not any(answer.value.number for answer in answers):
        return NONE
    for host, ranks in by_host(answers).items():
        most, owners = max(answer.value.number for answer in ranks), Counter(answer.value.mine for answer in ranks)
        uuid, users = owners.most_common(1)[0]
        cure = "start as many ranks a node as it has GPUs"
        if len(ranks) > 1 and most == 1 and len(owners) > 1:
            told = f"each rank of {host} sees only its own GPU, so that NCCL can't reach the others"
            cure = "let each rank see all GPUs of its node: srun without --gpus-per-task and --gpu-bind (take "
            cure += "--gpus-per-node), and set no CUDA_VISIBLE_DEVICES; hpcfast takes the GPU of its local rank"
            return Finding(told, "bad", cure)
        if users > 1:
            return Finding(f"{users} ranks of {host} use one GPU ({uuid})", "bad", cure)
        if len(ranks) < most:
            return Finding(f"{host} has {most} GPUs and {len(ranks)} ranks", "warn", f"{cure}: the others are idle")
    return Finding("a GPU for each rank")


CHECKS = (
    Check("GPUs", _gpus, judge_gpus),
    Check("GPU binding", lambda _: _seen(), judge_binding),
)
