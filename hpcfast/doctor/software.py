"""The software: its versions, whether they agree over nodes, and whether launcher, Horovod and MPI agree."""

import importlib
import platform
from functools import partial
from importlib import metadata
from typing import NamedTuple

import torch
from packaging.requirements import Requirement

import hpcfast
from hpcfast.distributed import about, launcher
from hpcfast.doctor.finding import Answers, Check, Finding, Job, hosts, same

ONE_SET_UP = "use one .venv on a shared file system on all nodes, or run scripts/setup again on the node that differs"
REBUILD = "'rm -r .venv' and scripts/setup, with the compiler and the MPI of your jobs loaded"


class Size(NamedTuple):
    """The number of ranks as the launcher (None: says nothing), Horovod and mpi4py (None: not used) say it."""

    launched: int | None
    horovod: int
    mpi: int | None
    features: tuple[str, ...] = ("Gloo", "MPI")


def _pins(_: Job) -> tuple[str, ...]:
    """Requirements that are installed in another version than hpcfast asks for."""
    wrong = []
    for text in metadata.requires("hpcfast") or []:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = metadata.version(wanted.name)
            if not wanted.specifier.contains(found, prereleases=True):
                wrong.append(f"{wanted.name} {found} instead of {str(wanted.specifier).lstrip('=')}")
    return tuple(wrong)


def judge_pins(answers: Answers) -> Finding:
    """``value``: requirements in another version, in words."""
    wrong = {text: [a for a in answers if text in a.value] for answer in answers for text in answer.value}
    if not wrong:
        return Finding("as in setup.cfg")
    return Finding("; ".join(f"{text} on {hosts(who)}" for text, who in wrong.items()), "warn", ONE_SET_UP)


def judge_build(answers: Answers) -> Finding:
    """``value``: the torch that Horovod was compiled against, and the one that is installed."""
    for _, host, (against, installed), _ in answers:
        if against != installed:
            return Finding(f"built for {against}, but torch is {installed} on {host}", "bad", REBUILD)
    return Finding(f"built for {answers[0].value[0]}")


def _size(job: Job) -> Size:
    mpi = about.mpi()
    return Size(launcher.size(), job.world.size, mpi and mpi.size, about.features())


def judge_size(answers: Answers) -> Finding:
    """``value``: a Size."""
    for answer in answers:
        launched, horovod, mpi, features = answer.value
        if launched is not None and launched != horovod:
            told = f"the launcher started {launched} ranks, Horovod sees {horovod}"
            cure = f"Horovod was built without MPI: {REBUILD}"
            if "MPI" in features:
                cure = "use the mpirun of the MPI that Horovod was built with ('which mpirun'), and leave "
                cure += "HOROVOD_CONTROLLER unset"
            return Finding(told, "bad", f"{cure}; or start ranks with horovodrun --gloo")
        if mpi is not None and mpi != horovod:
            return Finding(f"Horovod sees {horovod} ranks, mpi4py {mpi}", "bad", f"they load two MPIs: {REBUILD}")
    size = answers[0].value
    return Finding(f"{size.horovod}, over {'Gloo' if size.mpi is None else 'MPI'}")


def judge_mpi(answers: Answers) -> Finding:
    """``value``: the library and its version; None where Gloo carries the job."""
    if all(answer.value is None for answer in answers):
        return Finding("this job does not use it", "not here")
    return same(answers, "load the same MPI module on all nodes, in the batch script")


def _nccl(_: Job) -> str | None:
    return ".".join(map(str, torch.cuda.nccl.version())) if torch.version.cuda else None


def _dali(_: Job) -> str:
    importlib.import_module("hpcfast.data.dali")  # loads its libraries, which a version alone would not prove
    names = (Requirement(text).name for text in metadata.requires("hpcfast") or [])
    return metadata.version(next(name for name in names if name.startswith("nvidia-dali")))


_agree = partial(same, cure=ONE_SET_UP)
CHECKS = (
    Check("ranks", _size, judge_size),
    Check("Python", lambda _: platform.python_version(), _agree),
    Check("hpcfast", lambda _: hpcfast.__version__, _agree),
    Check("torch", lambda _: torch.__version__, _agree),
    Check("CUDA runtime", lambda _: torch.version.cuda or "none", _agree),
    Check("Horovod", lambda _: f"{about.version()}, {' '.join(about.features())}", _agree),
    Check("Horovod's torch", lambda _: (about.built_for(), torch.__version__), judge_build),
    Check("MPI", lambda _: (mpi := about.mpi()) and mpi.library, judge_mpi),
    Check("NCCL", _nccl, _agree),
    Check("DALI", _dali, _agree),
    Check("requirements", _pins, judge_pins),
)
