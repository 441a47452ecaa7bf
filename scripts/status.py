"""How far the tables are, from the run store alone: ``python scripts/status.py [table=GLOB] [scale=paper]``.

``json=true`` prints plain values for programs; ``outputs=DIR`` is the run store, also of other people;
further settings as for reproduce.py (see its --help). Writes nothing. Exit code 2 if a configuration is
broken.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__)  # before the imports that take seconds

import json

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.status.of_tables import status_of
from experiments.status.text import plain_values, render
from scripts.common import USER_ERROR, complain
from scripts.tables import composed, scale_of, table_configs, take
from skiptune.errors import SkiptuneError
from skiptune.runtime.store import RunStore


def main(arguments: list[str]) -> None:
    """Print the status of the tables that match."""
    pattern, arguments = take("table", arguments, "*")
    as_json, settings = take("json", arguments, "false")
    if as_json not in ("true", "false"):
        raise SkiptuneError(f"json is {as_json!r}; give true or false")
    tables, config = table_configs(pattern), composed(settings)
    statuses = status_of(tables, scale_of(config), RunStore(str(config["outputs"])))
    print(json.dumps(plain_values(statuses), indent=1) if as_json == "true" else render(statuses))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SkiptuneError, HydraException, OmegaConfBaseException) as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
