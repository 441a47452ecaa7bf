"""A synthetic result of the real Table 2 file, built from the real dataclasses. Its numbers are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.read import parse_table
from experiments.tables.results import Provenance, RowResult, TableResult, floor_row, not_run
from experiments.tables.rules import Evidence, judge
from experiments.values import Value
from skiptune.evaluation.intervals import block_interval

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TUNED = {"heun_selected": 0.65, "unipc_selected": 0.8}
SEEDS = tuple((100_000 + 500 * i, 100_499 + 500 * i) for i in range(6))
ROLES = {"class_conditional_edm": {"model": "tiny ADM", "data": "glyphs 16x16", "features": "glyph CNN"}}

Blocks = dict[str, dict[str, list[float]]]


@pytest.fixture
def raw() -> dict[str, Any]:
    """The table file as plain values, fresh for every test."""
    return yaml.safe_load((CONFIGS / "table/skip_tuning/02.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def config(raw: dict[str, Any]) -> TableConfig:
    return parse_table(raw, "table=skip_tuning/02")


@pytest.fixture
def roles() -> dict[str, dict[str, str]]:
    return ROLES


@pytest.fixture
def blocks() -> Callable[..., Blocks]:
    """Simulated FIDs per seed block: tuned = ratio * baseline, with noise of 1 percent per pair."""

    def simulate(heun: float, unipc: float, noise: float = 0.01, count: int = 6) -> Blocks:
        random = np.random.default_rng(0)
        table: Blocks = {}
        for sampler, base, ratio in (("heun", 30.0, heun), ("unipc", 6.0, unipc)):
            block = base * np.exp(0.1 * random.standard_normal(count))
            for arm, factor in (("baseline", 1.0), ("paper", ratio), ("selected", ratio)):
                spread = random.standard_normal(count)
                # Centred, so that the mean log ratio is exactly the nominal one.
                pair = noise * (spread - spread.mean()) * (arm != "baseline")
                values = factor * block * np.exp(pair)
                table[f"{sampler}_{arm}"] = {"fid": values.tolist()}
        return table

    return simulate


@pytest.fixture
def result(config: TableConfig, blocks: Callable[..., Blocks]) -> TableResult:
    """Table 2 at desk scale: five rows measured, the last not run, a floor."""
    values = blocks(0.5, 0.8)
    del values["unipc_selected"]
    rows = [_row(row, values) for row in config.rows_at("desk")]
    floor = floor_row(
        {"fid": _value([0.9, 1.0, 1.1, 1.0, 0.95, 1.05])}, ("f" * 20,), ["class_conditional_edm"], "glyphs"
    )
    claims = judge(Evidence(config, "desk", values))
    where = Provenance("0" * 40, {"torch": "2.14.1"}, "synthetic CPU", "2026-01-02T03:04:05+00:00", 12.5)
    return TableResult("skip_tuning", "table", 2, "desk", (*rows, floor), claims, where)


def _row(row: RowConfig, values: Blocks) -> RowResult:
    settings = row.settings(TUNED.get(row.id))
    if row.id not in values:
        return not_run(row.label, settings, row.paper, "no weights")
    value = {"fid": _value(values[row.id]["fid"])}
    return RowResult(row.label, settings, 9, value, row.paper, record=("0123456789abcdef0123",))


def _value(values: list[float]) -> Value:
    interval = block_interval(values)
    return Value(interval.value, interval.low, interval.high, interval.n, SEEDS)
