"""The software: its versions, and whether all nodes have the same."""

import importlib
import platform
from functools import partial
from importlib import metadata

import torch
from packaging.requirements import Requirement

import hpcfast
from hpcfast.distributed import about
from hpcfast.doctor.finding import Check, Job, same


def _nccl(_: Job) -> str | None:
    return ".".join(map(str, torch.cuda.nccl.version())) if torch.version.cuda else None


def _dali(_: Job) -> str:
    importlib.import_module("hpcfast.data.dali")  # loads its libraries, which a version alone would not prove
    names = (Requirement(text).name for text in metadata.requires("hpcfast") or [])
    return metadata.version(next(name for name in names if name.startswith("nvidia-dali")))


_agree = partial(
    same,
    cure="use one .venv on a shared file system on all nodes, or run scripts/setup again on the node that differs",
)
CHECKS = (
    Check("ranks", lambda job: f"{job.world.size}, over {'MPI' if about.mpi() else 'Gloo'}", _agree),
    Check("Python", lambda _: platform.python_version(), _agree),
    Check("hpcfast", lambda _: hpcfast.__version__, _agree),
    Check("torch", lambda _: torch.__version__, _agree),
    Check("CUDA runtime", lambda _: torch.version.cuda, _agree),
    Check("Horovod", lambda _: f"{about.version()}, {about.features()}", _agree),
    Check(
        "MPI",
        lambda _: about.mpi(),
        partial(same, cure="load the same MPI module on all nodes, in the batch script"),
    ),
    Check("NCCL", _nccl, _agree),
    Check("DALI", _dali, _agree),
)
