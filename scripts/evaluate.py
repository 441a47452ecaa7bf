"""Metrics of images or features that other programs made: one line of JSON, all other talk on stderr."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "evaluate")  # before the imports that take seconds

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from scripts.shared.common import INTERRUPTED, USER_ERROR, complain, settings_of, stop
from scripts.shared.references import published
from skiptune.errors import SkiptuneError
from skiptune.evaluation.evaluation import PLACES, Evaluation, needs_reference
from skiptune.runtime.distributed import join, tell_others, world
from skiptune.runtime.stopping import Stopped, stop_on_signals


def main(arguments: Sequence[str]) -> None:
    """``key=value`` arguments over ``configs/evaluate.yaml``; for Hydra ``features`` would be a group."""
    settings = settings_of("evaluate", arguments)
    settings |= {key: str(settings[key]) for key in PLACES if type(settings[key]) is int}  # a folder 2026
    if isinstance(settings["reference"], str) and needs_reference(settings["metrics"]):
        settings["reference"] = published(settings["reference"], Path(str(settings["checkpoints"])))
    join()
    with contextlib.redirect_stdout(sys.stderr):  # some libraries print
        result = Evaluation(**settings).result()
    if world().is_main:
        print(json.dumps(result))


if __name__ == "__main__":
    stop_on_signals()
    try:
        main(sys.argv[1:])
    except (SkiptuneError, OSError) as error:
        tell_others(error)
        complain(error)
        raise SystemExit(USER_ERROR) from None
    except Stopped as error:
        stop(error)
    except KeyboardInterrupt:
        complain("stopped; what was extracted is kept, the same command goes on from there", "")
        raise SystemExit(INTERRUPTED) from None
