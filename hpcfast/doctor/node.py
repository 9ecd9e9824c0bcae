"""What each node has: software, whose versions must agree, cores and GPUs; and which of these its ranks have."""

import importlib
import os
import platform
import shutil
import subprocess
from collections import Counter
from functools import partial
from importlib import metadata
from typing import NamedTuple

import torch

import hpcfast
from hpcfast.data import feed
from hpcfast.distributed import comm
from hpcfast.doctor.finding import Answers, Check, Finding, Job, by_host, same

NO_GPU = Finding("no GPU on any node", "not here")


class Cores(NamedTuple):
    """The cores a rank may use, how many its node has, and the threads it computes with."""

    mine: tuple[int, ...]
    on_node: int
    threads: int


class Gpus(NamedTuple):
    """What torch sees, the name and UUID of this rank's own, whether gradients stay on GPUs, and the driver."""

    number: int
    name: str = ""
    mine: str = ""
    reaches: bool = True
    driver: str = ""


def _nccl(_: Job) -> str | None:
    return ".".join(map(str, torch.cuda.nccl.version())) if torch.version.cuda else None


def _dali(_: Job) -> str | None:
    if not (dali := feed.dali_package()):
        return None
    importlib.import_module("hpcfast.data.dali")  # loads its libraries, which a version alone would not prove
    return metadata.version(dali)


def _cores(_: Job) -> Cores:
    return Cores(tuple(sorted(os.sched_getaffinity(0))), os.cpu_count() or 1, torch.get_num_threads())


def _judge_cores(answers: Answers) -> Finding:
    for host, ranks in by_host(answers).items():
        users = Counter(core for answer in ranks for core in answer.value.mine)
        for rank, _, (mine, on_node, threads), _ in ranks:
            if sum(1 / users[core] for core in mine) < 1 - 1e-6:
                if len(ranks) > on_node:
                    told = f"{len(ranks)} ranks on the {on_node} cores of {host}"
                    return Finding(told, "warn", "start fewer ranks a node: they take turns")
                span = str(mine[0]) if len(mine) == 1 else f"{mine[0]} to {mine[-1]}"
                told = f"rank {rank} on {host} shares core {span} with others; the node has {on_node}"
                cure = "bind no rank, or each to cores of its own: srun --cpu-bind=cores --cpus-per-task=N, "
                return Finding(told, "bad", cure + "mpirun --bind-to none, no taskset")
            if threads > len(mine):
                told = f"rank {rank} on {host} has {threads} threads on {len(mine)} cores"
                return Finding(told, "warn", "unset OMP_NUM_THREADS: hpcfast takes a rank's share of the cores")
    first = answers[0].value
    return Finding(f"{len(first.mine)} of {first.on_node} a rank, {first.threads} threads")


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"nvidia-smi: {(done.stdout + done.stderr).strip()[:200]}")
    return done.stdout.partition("\n")[0].strip()


def _seen() -> Gpus:
    if not torch.cuda.is_available():
        return Gpus(0)
    count, own = torch.cuda.device_count(), torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(own)
    return Gpus(count, properties.name, str(properties.uuid), comm.engine().reaches_gpus)


def _judge_gpus(answers: Answers) -> Finding:
    for answer in answers:
        if answer.value.driver and not answer.value.number:
            told = f"driver {answer.value.driver} on {answer.host}, and torch sees no GPU"
            cure = f"torch needs a driver for CUDA {torch.version.cuda}: ask the administrators; or "
            return Finding(told, "bad", cure + "CUDA_VISIBLE_DEVICES hides all GPUs: unset it")
    if not any(answer.value.number for answer in answers):
        return NO_GPU
    if any(answer.value.number and not answer.value.reaches for answer in answers):
        cure = "'rm -r .venv' and scripts/setup where torch is a CUDA build; without NCCL gradients go through the CPU"
        return Finding("Horovod was built without NCCL", "bad", cure)
    names = [answer._replace(value="{0} x {1}, driver {4}".format(*answer.value)) for answer in answers]
    return same(names, "take nodes of one kind (sbatch --constraint, --gpus-per-node), with one driver")


def _judge_binding(answers: Answers) -> Finding:
    if not any(answer.value.number for answer in answers):
        return NO_GPU
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


_agree = partial(
    same,
    cure="use one .venv on a shared file system on all nodes, or run scripts/setup again on the node that differs",
)
CHECKS = (
    Check("ranks", lambda job: ", over ".join(filter(None, (str(job.world.size), comm.engine().carrier))), _agree),
    Check("Python", lambda _: platform.python_version(), _agree),
    Check("hpcfast", lambda _: hpcfast.__version__, _agree),
    Check("torch", lambda _: torch.__version__, _agree),
    Check("CUDA runtime", lambda _: torch.version.cuda, _agree),
    Check("engine", lambda _: comm.engine().about, _agree),
    Check(
        "MPI",
        lambda _: comm.engine().mpi,
        partial(same, cure="load the same MPI module on all nodes, in the batch script"),
    ),
    Check("NCCL", _nccl, _agree),
    Check("DALI", _dali, _agree),
    Check("cores", _cores, _judge_cores, Cores),
    Check("GPUs", lambda _: _seen()._replace(driver=_driver()), _judge_gpus, Gpus),
    Check("GPU binding", lambda _: _seen(), _judge_binding, Gpus),
)
