"""What every table needs at ``scale=paper`` and what of it is missing on this machine, as one list.

``python scripts/paper_check.py [SETTING=VALUE ...]``, settings as for reproduce.py (see its
--help), e.g. checkpoints=DIR.
``page=FILE`` writes a page of commands, costs and files too, whatever machine this is.
Exit code 0 also if things are missing; 2 if a configuration is broken.
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

import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.needs import Needs, needs_of
from experiments.needs_report import needs_list, needs_page
from experiments.scale import Scale
from experiments.tables.config import TableConfig
from scripts.download import catalogue
from scripts.shared.common import USER_ERROR, complain
from scripts.shared.tables import composed, read_table, scale_of, table_names, take
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import write_atomic


def main(arguments: list[str]) -> int:
    """Print the list; returns the exit code."""
    page, settings = take("page", arguments, "")
    config = composed(["scale=paper", *settings])
    scale = scale_of(config)
    tables = {name: check(name, scale) for name in table_names()}
    sound = {name: found for name, found in tables.items() if not isinstance(found, str)}
    broken = [name for name in tables if name not in sound]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    needs = {name: found if isinstance(found, str) else found[1] for name, found in tables.items()}
    print(needs_list(needs, catalogue().values(), Path(str(config["checkpoints"])), gpu))
    if broken:
        complain(f"broken configuration: {', '.join(broken)}")
        return USER_ERROR
    if page:
        write_atomic(page, needs_page(sound, catalogue().values(), Path(str(config["results"]))))
    return 0


def check(name: str, scale: Scale) -> tuple[TableConfig, Needs] | str:
    """A table with its needs, or what is wrong with its configuration."""
    try:
        table = read_table(name)
        return table, needs_of(table, scale)
    except (SkiptuneError, TypeError, KeyError) as error:
        return " ".join(f"{error}".split())[:200] or type(error).__name__


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except (SkiptuneError, HydraException, OmegaConfBaseException) as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
