"""The errors that reach a user as one message instead of a traceback."""


class UserError(Exception):
    """The user's input is wrong.

    The message names the bad value, the legal ones and the cure. The command line prints it on rank 0 and
    exits with 2 on every rank.
    """
