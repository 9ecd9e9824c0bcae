"""Others' attacks that results are compared with."""

from typing import Any


def shorten(apgd: Any, steps: int) -> None:
    """Let an APGD of pyautoattack take so many steps.

    When it is made it works out, from the 100 steps it has then, after how many it looks at the step size.
    """
    apgd.n_iter = apgd.n_iter_orig = steps
    apgd.n_iter_2, apgd.n_iter_min, apgd.size_decr = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
