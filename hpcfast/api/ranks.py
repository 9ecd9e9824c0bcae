"""The job that a caller's process belongs to: joined at the first call that needs it."""

from hpcfast.distributed import comm, joined
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError


def world(setting: str = "auto") -> World:
    """This process among its ranks; a collective of all ranks.

    Raises:
        UserError: it has joined them by another engine before, or cannot (:func:`hpcfast.distributed.comm.init`).
    """
    if not joined.is_joined():
        return comm.init(setting)
    if setting not in ("auto", comm.chosen().name):
        raise UserError(f"engine: {setting}, but this process has joined its ranks by {comm.chosen().name}; begin anew")
    return comm.join()
