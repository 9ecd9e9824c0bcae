"""Kill a process at a system call: real ones, counted by the kernel (ptrace), whatever language makes them."""

import ctypes
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable

FILES = {
    "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75, "truncate": 76,
    "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88,
    "chmod": 90, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fallocate": 285, "renameat2": 316, "copy_file_range": 326,
}  # fmt: skip
"""Those that change what is on a disk, by their numbers on x86-64; elsewhere all calls are counted."""
COUNTED = frozenset(FILES.values()) if platform.machine() == "x86_64" else None
_TRACE_ME, _PEEK, _STEP, _DETACH, _OPTIONS = 0, 3, 24, 17, 0x4200
_MARKED, _DIES_WITH_US = 1, 0x100000
_NUMBER = 120  # where x86-64 keeps a call's number
_traced: list[int] = []
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def killed_at(call: int, work: Callable[[Callable[[], None]], object]) -> bool:
    """Fork a process that does ``work``, and kill it before its ``call``-th system call (from 1); whether it had one.

    Args:
        work: is given a function that it calls where counting is to begin, and, if it is to end, once more.

    Raises:
        RuntimeError: it failed before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(_switch)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - the child must never go on as a second parent
            traceback.print_exc()
        finally:
            os._exit(code)
    return _watch(pid, call)


def _switch() -> None:
    """Begin or end the counting: the parent is told by a signal."""
    if not _traced:
        _traced.append(_ptrace(_TRACE_ME, 0))
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread is traced, others are not


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    value: int = _libc.ptrace(request, pid, address, data)
    if value == -1 and (error := ctypes.get_errno()):
        raise OSError(error, f"ptrace: {os.strerror(error)}")
    return value


def _watch(pid: int, call: int) -> bool:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        _ptrace(_OPTIONS, pid, data=_MARKED | _DIES_WITH_US)
    count, enters, number = 0, True, 0
    while os.WIFSTOPPED(status):
        stopped, passed = os.WSTOPSIG(status), 0
        if stopped == signal.SIGTRAP | 0x80:  # a call begins or has ended
            counts = enters and (COUNTED is None or _ptrace(_PEEK, pid, _NUMBER) in COUNTED)
            enters = not enters
            count += counts
            if count == call:
                os.kill(pid, signal.SIGKILL)
        elif stopped == signal.SIGSTOP and number:
            _ptrace(_DETACH, pid)
            _, status = os.waitpid(pid, 0)
            break
        elif stopped != signal.SIGSTOP:
            passed = stopped
        number += 1
        if count != call:
            _ptrace(_STEP, pid, data=passed)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process ended with {code} by itself; see what it wrote")
    return code != 0
