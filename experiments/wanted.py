"""The measurements that a table consists of, before any of them is made."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.measurement import Measurement
from experiments.registry import measurement
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.values import Value
from skiptune.errors import SkiptuneError
from skiptune.evaluation.metrics import get_metric


def seeded(scale: Scale, config: TableConfig) -> Scale:
    """The scale with the table's own seeds, if it has any."""
    return scale.with_seeds(config.seeds[scale.name]) if scale.name in config.seeds else scale


def reported(row: RowConfig, config: TableConfig, scale: Scale, tuned: float | None) -> list[Measurement]:
    """The measurements on the report seeds, one per training seed; ``tuned`` fills in what was selected.

    Raises:
        SkiptuneError: what the row names does not exist, or a file is missing.
    """
    intervention = row.intervention if tuned is None else row.resolved(tuned)
    metrics = row.metrics or config.metrics
    return [measurement(own, row, intervention, own.report, metrics) for own in scale.of_trained(row.role)]


def grid_measurements(row: RowConfig, config: TableConfig, scale: Scale) -> dict[float, Measurement]:
    """The measurements of a tuned row on the selection seeds: its grid, and 1 for the figure.

    Raises:
        SkiptuneError: as ``reported``; a grid without a value beside 1.
    """
    assert config.tuning is not None
    grid = dict.fromkeys((*grid_beside_one(config, row), 1.0))
    metrics = (config.tuning.metric,)
    return {value: measurement(scale, row, row.resolved(value), scale.select, metrics) for value in grid}


def best_value(config: TableConfig, values: Mapping[float, Value]) -> float:
    """The best value of a search but 1, the untouched network."""
    assert config.tuning is not None
    best = min if get_metric(config.tuning.metric).lower_is_better else max
    return best((value for value in values if value != 1), key=lambda value: values[value].value)


def grid_beside_one(config: TableConfig, row: RowConfig) -> tuple[float, ...]:
    """The values to choose among. Raises SkiptuneError if there is only 1, the untouched network."""
    assert config.tuning is not None
    grid = tuple(value for value in config.tuning.grids[row.id] if value != 1)
    if not grid:
        raise SkiptuneError(f"tuning.grids.{row.id} has no value but 1; give another")
    return grid
