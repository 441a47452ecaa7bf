"""The results as pages to open from the disk: ``python scripts/report.py [report=DIR] [SETTING=VALUE ...]``.

Written to ``results/report`` unless ``report`` says otherwise; settings as for
reproduce.py (see its --help).
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

from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.report.build import build
from experiments.report.entries import Entry, entries
from experiments.status.of_tables import TableStatus, status_of
from experiments.tables.config import SCALES
from scripts.shared.common import USER_ERROR, complain
from scripts.shared.tables import composed, looked_at, scale_of, table_configs, take
from skiptune.errors import SkiptuneError


def main(arguments: list[str]) -> None:
    """Write the report and say where it is."""
    given, settings = take("report", arguments, "")
    pattern, settings = take("table", settings, "*")
    tables = table_configs(pattern)
    found, statuses = list[Entry](), dict[str, list[TableStatus]]()
    for name in SCALES:
        config = composed([*settings, f"scale={name}"])
        scale, results = scale_of(config), Path(str(config["results"]))
        store = looked_at(config)
        found += entries(results, tables, scale)
        statuses[name] = status_of(tables, scale, store)
    folder = Path(given) if given else results / "report"
    print(f"wrote {build(folder, found, statuses, store)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SkiptuneError, HydraException, OmegaConfBaseException) as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
