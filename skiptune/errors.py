"""The one exception that a user may see, and a guess at what was meant."""

import difflib
from collections.abc import Iterable


class SkiptuneError(Exception):
    """A wrong argument, a missing or damaged file, a result that cannot be used.

    The message is one line: what was wrong, and what to do. Scripts print it and exit with code 2.
    """


def did_you_mean(name: str, known: Iterable[str], place: str = "") -> str:
    """``, did you mean this or that?`` for a misspelt name; nothing if no known one is like it.

    ``place`` is written before each: ``sampler.``.
    """
    close = [place + each for each in difflib.get_close_matches(name, list(known), 3)]
    return f", did you mean {' or '.join(close)}?" if close else ""
