"""The one exception that a user may see."""


class SkiptuneError(Exception):
    """A wrong argument, a missing or damaged file, a result that cannot be used.

    The message is one line: what was wrong, and what to do. Scripts print it and exit with code 2.
    """
