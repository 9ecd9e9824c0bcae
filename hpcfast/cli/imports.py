"""How long ``hpcfast train`` takes to begin."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick() -> Iterator[None]:
    """Look for no garbage while modules are imported, and never again among what they leave.

    Importing torch, DALI and timm makes a million objects, none of them garbage: going through them again and again
    is a fifth of the time, and later a pause in the middle of a step, for which all ranks wait.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
