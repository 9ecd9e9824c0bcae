"""The engine that carries this process's job, once it has joined it."""

from hpcfast.distributed.engines import Engine, choice

_engine: Engine | None = None
_choice = choice.Choice("", "")


def engine() -> Engine:
    """What carries this job."""
    if _engine is None:
        raise RuntimeError("comm.init() comes first")
    return _engine


def is_joined() -> bool:
    """Whether this process has joined its job."""
    return _engine is not None


def chosen() -> choice.Choice:
    """The engine's name, and why it was chosen."""
    return _choice


def lost_a_peer(error: BaseException) -> bool:
    """Whether a collective raised ``error`` because another rank has died."""
    return _engine is not None and isinstance(error, _engine.lost)


def join(chosen: choice.Choice, engine: Engine) -> None:
    """From now on ``engine`` carries the job."""
    global _engine, _choice
    _engine, _choice = engine, chosen


def abort(code: int) -> None:
    """End the other ranks where the launcher would not."""
    if _engine is not None:
        _engine.abort(code)
