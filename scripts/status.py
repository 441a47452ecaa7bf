"""How far the tables are, from the run store alone: ``python scripts/status.py [table=GLOB] [scale=paper]``.

``json=true`` prints plain values for programs; ``outputs=DIR`` is the run store, also of other people;
further settings as for reproduce.py (see its --help). ``conditions=true`` prints instead every measured
condition of the store, such as those of a sweep of measure.py, as CSV. Writes nothing. Exit code 2 if a
configuration is broken.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__)  # before the imports that take seconds

import json

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.status.conditions import conditions_csv
from experiments.status.of_tables import status_of
from experiments.status.text import plain_values, render
from scripts.shared.common import USER_ERROR, complain
from scripts.shared.tables import composed, looked_at, scale_of, table_configs, take
from skiptune.errors import SkiptuneError


def main(arguments: list[str]) -> None:
    """Print the status of the tables that match, or what was measured."""
    pattern, arguments = take("table", arguments, "*")
    as_json, arguments = flag("json", arguments)
    conditions, settings = flag("conditions", arguments)
    tables, config = table_configs(pattern), composed(settings)
    store = looked_at(config)
    if conditions:
        print(conditions_csv(store), end="")
        return
    statuses = status_of(tables, scale_of(config), store)
    print(json.dumps(plain_values(statuses), indent=1) if as_json else render(statuses))


def flag(key: str, arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether ``key=true`` is among the arguments, and the others."""
    value, others = take(key, arguments, "false")
    if value not in ("true", "false"):
        raise SkiptuneError(f"{key} is {value!r}; give true or false")
    return value == "true", others


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SkiptuneError, HydraException, OmegaConfBaseException) as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
