"""What every table needs at ``scale=paper`` and what of it is missing on this machine, as one list.

``python scripts/paper_check.py [SETTING=VALUE ...]``, settings as for reproduce.py, e.g. checkpoints=DIR.
Exit code 0 also if things are missing; 2 if a configuration is broken.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.needs import TABLES, Needs, needs_of, render
from experiments.scale_config import parse_scale
from experiments.tables.read import parse_table
from scripts.common import CONFIGS, USER_ERROR, complain, plain
from scripts.download import catalogue
from skiptune.errors import SkiptuneError


def main(settings: list[str]) -> int:
    """Print the list; returns the exit code."""
    configured = [
        f"{path.parent.name} {path.stem}" for path in sorted((Path(CONFIGS) / "table").glob("*/*.yaml"))
    ]
    planned = [f"{paper} {number:02d}" for paper, numbers in TABLES.items() for number in numbers]
    tables: dict[str, Needs | str | None] = {}
    checkpoints = Path("checkpoints")
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        checkpoints = Path(plain(compose("reproduce", settings))["checkpoints"])
        for name in dict.fromkeys([*planned, *configured]):
            tables[name] = check(name, settings) if name in configured else None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(render(tables, catalogue().values(), checkpoints, gpu))
    broken = [name for name, value in tables.items() if isinstance(value, str)]
    if broken:
        complain(f"broken configuration: {', '.join(broken)}")
    return USER_ERROR if broken else 0


def check(name: str, settings: list[str]) -> Needs | str:
    """The needs of the table "<paper> <number>", or what is wrong with its configuration."""
    try:
        table = name.replace(" ", "/")
        config = plain(compose("reproduce", [f"table={table}", "scale=paper", *settings]))
        scale = parse_scale(config, "cuda")
        return needs_of(parse_table(config["table"], "table"), scale)
    except (SkiptuneError, HydraException, OmegaConfBaseException, TypeError, KeyError) as error:
        return " ".join(f"{error}".split())[:200] or type(error).__name__


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except (SkiptuneError, HydraException, OmegaConfBaseException) as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
