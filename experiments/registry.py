"""Experiments by name: what the key ``experiment`` of a table configuration may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.measurement import Bench
from experiments.scale import Scale
from experiments.skip_tuning import rho_table
from experiments.tables.config import TableConfig
from experiments.tables.results import TableResult
from skiptune.errors import SkiptuneError

Experiment = Callable[[TableConfig, Scale, Bench, Path], TableResult]

EXPERIMENTS: dict[str, Experiment] = {"skip_tuning.rho_table": rho_table.make_table}


def get_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises SkiptuneError, listing the known ones, if there is none."""
    if name not in EXPERIMENTS:
        raise SkiptuneError(f"unknown experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
