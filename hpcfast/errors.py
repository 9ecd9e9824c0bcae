"""The errors that reach a user as one message instead of a traceback."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of a disk that has no room for this user."""


class UserError(Exception):
    """The user's input is wrong.

    The message names the bad value, the legal ones and the cure. The command line prints it on rank 0 and
    exits with 2 on every rank.
    """


def to_cure(error: UserError | OSError) -> str | None:
    """What to say of an error that a person can cure, one of the file system too, whichever file it met; else None."""
    if isinstance(error, UserError):
        return str(error)
    if error.errno in FULL:
        return f"{error}: the disk is full, or your share of it. Make room and give the same command again"
    if error.errno == errno.EROFS:
        return f"{error}: the disk is read-only. Have it writable again and give the same command again"
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.strerror}: {str(error.filename)[:200]!r}…; give a shorter one"
    return None
