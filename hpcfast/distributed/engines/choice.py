"""Which engine carries a job, and why."""

import importlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple, get_args

from hpcfast.distributed import launcher
from hpcfast.distributed.engines import Engine
from hpcfast.distributed.settings import EngineName
from hpcfast.errors import UserError

VARIABLE = "HPCFAST_ENGINE"


class Choice(NamedTuple):
    """An engine's name, and the reason in words."""

    name: str
    reason: str


def choose(setting: str = "auto") -> Choice:
    """The engine that ``setting``, else the environment, else the launcher asks for.

    Raises:
        UserError: it is none, or it cannot carry the ranks that a launcher has started.
    """
    names = get_args(EngineName)
    given, source = (setting, "engine") if setting != "auto" else (os.environ.get(VARIABLE, "auto"), VARIABLE)
    if given not in names:
        raise UserError(f"{source}: {given!r} is no engine; choose from {', '.join(names)}")
    _refuse_two_launchers()
    if given == "auto":
        return _of_the_launcher()
    size = launcher.size()
    if given == "single" and size != 1:
        raise UserError(f"{source}: single is for one process, and a launcher has started {size or 'several'} ranks")
    if given == "horovod":
        _require_horovod(f"{source}: horovod")
    return Choice(given, f"{source} says so")


def load(choice: Choice) -> Engine:
    """Import the engine's file and join the job."""
    module = importlib.import_module(f"hpcfast.distributed.engines.{choice.name}")
    engine: type[Engine] = getattr(module, choice.name.capitalize())
    return engine()


def _of_the_launcher() -> Choice:
    if "HOROVOD_RANK" in os.environ:
        _require_horovod("horovodrun has started this process")
        return Choice("horovod", "horovodrun has started the ranks")
    if launcher.TORCHRUN in os.environ:
        return Choice("torch", "torchrun has started the ranks")
    if launcher.slurm_step():
        why = missing_horovod()
        return Choice("torch" if why else "horovod", f"srun has started the ranks{why and f', and {why}'}")
    if launcher.rank() is not None:
        _require_horovod("an MPI's launcher has started this process")
        return Choice("horovod", "an MPI's launcher has started the ranks")
    return Choice("single", "no launcher has started this process")


def _refuse_two_launchers() -> None:
    env = os.environ
    if launcher.TORCHRUN in env and env.get("HOROVOD_RANK", env.get("RANK")) != env.get("RANK"):
        raise UserError(
            f"this is rank {env['HOROVOD_RANK']} by HOROVOD_RANK and rank {env['RANK']} by torchrun's RANK; start the "
            "ranks with one launcher, or unset the other's variables"
        )


def _require_horovod(who: str) -> None:
    if why := missing_horovod():
        raise UserError(
            f"{who}, but {why}. Build it for this torch with 'make setup', or use torchrun, or srun with engine=torch"
        )


def versions() -> dict[str, str]:
    """Horovod's, where it is installed: whatever carries a run, runs of one installation say the same."""
    return {} if missing_horovod() else {"horovod": importlib.metadata.version("horovod")}


def missing_horovod() -> str:
    """Why Horovod cannot be used; empty where it can."""
    spec = importlib.util.find_spec("horovod")
    if spec is None or not spec.submodule_search_locations:
        return "Horovod is not installed"
    folder = Path(spec.submodule_search_locations[0]) / "torch"
    if not list(folder.glob("mpi_lib_v2*.so")):
        return f"the Horovod in {folder.parent} was built without torch: its torch/mpi_lib_v2 is missing"
    return ""
