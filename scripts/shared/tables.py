"""Tables and scales for commands about many tables at once: one composition instead of one a table."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from experiments.config_files import CONFIGS, choice, choice_names, read_yaml
from experiments.scale import Scale
from experiments.scale_config import parse_scale
from experiments.tables.config import KINDS, PAPERS, TableConfig
from experiments.tables.read import parse_table
from scripts.shared.common import plain
from scripts.shared.complaints import check_keys
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import device
from skiptune.runtime.store import RunStore


def take(key: str, arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """The value of ``key=value``, and the other arguments."""
    values = [argument.removeprefix(f"{key}=") for argument in arguments if argument.startswith(f"{key}=")]
    rest = [argument for argument in arguments if not argument.startswith(f"{key}=")]
    return (values[-1] if values else default), rest


def composed(settings: Sequence[str]) -> dict[str, Any]:
    """``configs/reproduce.yaml`` with these settings. Raises SkiptuneError and Hydra's errors."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = plain(compose("reproduce", list(settings)))
    check_keys(CONFIGS / "reproduce.yaml", config)
    return config


def looked_at(config: dict[str, Any]) -> RunStore:
    """The run store of a composed configuration, for commands that only read it.

    Raises:
        SkiptuneError: it is not there, and it is not the one that a fresh clone has not made yet.
    """
    root, default = str(config["outputs"]), read_yaml(CONFIGS / "reproduce.yaml")
    if root != default["outputs"] and not Path(root).is_dir():
        raise SkiptuneError(f"there is no folder {root}: outputs is the run store, which holds runs/")
    return RunStore(root)


def scale_of(config: dict[str, Any]) -> Scale:
    """The scale of a composed configuration.

    ``device=auto`` is a GPU at scale paper, also where this machine has none: it looks at others' runs.
    """
    gpus = config["device"] == "auto" and config["scale"]["name"] == "paper"
    kind = "cuda" if gpus or config["device"] == "cuda" else device(config["device"]).type
    return parse_scale(config, kind)


def table_configs(pattern: str = "*") -> dict[str, TableConfig]:
    """The tables of ``configs/table`` whose ``<paper>/<name>`` matches, by name, in the order of the papers.

    A name is ``skip_tuning/02``; ``skip_tuning/2`` and ``skip_tuning`` (all of a paper) do as well.

    Raises:
        SkiptuneError: no table matches, or one is broken.
    """
    names = table_names()
    padded = re.sub(r"(?<![0-9])([0-9])$", r"0\1", pattern)
    wanted = {pattern, padded, f"{pattern}/*"}
    chosen = [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in wanted)]
    if not chosen:
        raise SkiptuneError(f"no table matches {pattern!r}; tables: {', '.join(names)}")
    return {name: read_table(name) for name in chosen}


def table_names() -> list[str]:
    """``<paper>/<name>`` of all tables, in the order of the papers."""
    return sorted(choice_names("table"), key=order)


def read_table(name: str) -> TableConfig:
    """One table file, ``<paper>/<name>``. Raises SkiptuneError if it is broken."""
    return parse_table(choice("table", name), f"table={name}")


def order(name: str) -> tuple[int, int, str]:
    """Papers as they are listed, tables before figures, appendices, supplements."""
    paper, _, rest = name.partition("/")
    papers = [*PAPERS]
    kind = next((i for i, known in enumerate(KINDS) if rest.startswith(known)), 0)
    return papers.index(paper) if paper in papers else len(papers), kind, rest
