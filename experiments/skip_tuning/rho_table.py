"""Tables that compare FID with and without Skip-Tuning (Tables 2, 4, 6).

A tuned rho is selected on some seeds and reported on others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from experiments.measurement import Bench, Measurement, Result
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.figures import RhoCurve, RhoPoint, rho_curve, sample_grid
from experiments.tables.results import Provenance, RowResult, TableResult, floor_row
from experiments.tables.verdicts import Evidence, judge
from experiments.tables.write import keep_provenance, table_folder, write_table
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.provenance import provenance

TITLES = {"heun": "Heun", "unipc": "UniPC", "euler": "Euler"}


def make_table(config: TableConfig, scale: Scale, bench: Bench, results: Path) -> TableResult:
    """Measure every row, judge the claims, write table and figures below ``results``."""
    started, origin = time.monotonic(), provenance(scale.device)
    rows = config.rows_at(scale.name)
    curves = select_rho(config, scale, bench) if config.tuning else {}
    selected = {
        id: min((p for p in points if p.rho < 1), key=lambda p: p.value).rho for id, points in curves.items()
    }

    bench.label = "report seeds"
    measurements = {row.id: condition(row, scale, selected.get(row.id)) for row in rows}
    measured = dict(zip(measurements, bench.measure(list(measurements.values())), strict=True))
    floors = {row.role: bench.floor(measurements[row.id]) for row in rows}

    evidence = Evidence(config, scale.name, {id: result.blocks for id, result in measured.items()})
    result = TableResult(
        config.paper,
        config.table,
        scale.name,
        (
            *(row_result(row, scale, selected.get(row.id), measured[row.id]) for row in rows),
            *(floor_row({"fid": f.value("fid")}, (f.record,), role=role) for role, f in floors.items()),
        ),
        judge(evidence),
        Provenance.of(origin, time.monotonic() - started),
    )
    result = keep_provenance(result, results)
    if world().is_main:
        folder = table_folder(results, scale.name, config.paper)
        figures = [
            draw_curves(folder, config, rows, curves, selected, measured),
            draw_samples(folder, config, rows, scale, bench, measurements, measured),
        ]
        write_table(result, config, roles(rows, scale), results, [figure for figure in figures if figure])
    return result


def roles(rows: tuple[RowConfig, ...], scale: Scale) -> dict[str, dict[str, str]]:
    """Model, data and features of every role, for the head of the table."""
    return {row.role: scale.role(row.role).description for row in rows}


def condition(row: RowConfig, scale: Scale, rho: float | None) -> Measurement:
    """The row on the report seeds, its tuned coefficient filled in."""
    intervention = row.intervention if rho is None else row.resolved(rho)
    return scale.measurement(row.role, row.sampler, intervention, scale.report, ("fid",))


def select_rho(config: TableConfig, scale: Scale, bench: Bench) -> dict[str, tuple[RhoPoint, ...]]:
    """FID on the selection seeds over the grid of every tuned row, and at rho = 1 for the figure."""
    assert config.tuning is not None
    bench.label = "selection seeds"
    points = []
    for row in config.rows_at(scale.name):
        for rho in dict.fromkeys((*grid_below_one(config, row), 1.0)) if row.tuned else ():
            wanted = scale.measurement(
                row.role, row.sampler, row.resolved(rho), scale.select, (config.tuning.metric,)
            )
            points.append((row.id, rho, wanted))
    found = bench.measure([wanted for _, _, wanted in points])
    curves: dict[str, list[RhoPoint]] = {}
    for (id, rho, _), result in zip(points, found, strict=True):
        value = result.value(config.tuning.metric)
        curves.setdefault(id, []).append(RhoPoint(rho, value.value, value.low, value.high))
    return {id: tuple(curve) for id, curve in curves.items()}


def grid_below_one(config: TableConfig, row: RowConfig) -> tuple[float, ...]:
    """The values of rho to choose among. Raises SkiptuneError if none is below 1, the untouched network."""
    assert config.tuning is not None
    grid = tuple(rho for rho in config.tuning.grids[row.id] if rho != 1)
    if not grid:
        raise SkiptuneError(f"tuning.grids.{row.id} has no value below 1; give at least one")
    return grid


def row_result(row: RowConfig, scale: Scale, rho: float | None, measured: Result) -> RowResult:
    role = scale.role(row.role)
    return RowResult(
        label=row.label,
        settings=row.settings(rho, model=role.model["name"], features=role.features["name"]),
        nfe=measured.nfe,
        values={"fid": measured.value("fid")},
        paper=row.paper,
        record=(measured.record, measured.run),
    )


def draw_curves(
    folder: Path,
    config: TableConfig,
    rows: tuple[RowConfig, ...],
    curves: Mapping[str, tuple[RhoPoint, ...]],
    selected: Mapping[str, float],
    measured: Mapping[str, Result],
) -> tuple[str, str] | None:
    """FID against rho for every tuned row, with the rows of the same sampler measured on the report seeds."""
    if not curves:
        return None
    drawn = []
    for id, points in curves.items():
        row = config.row(id)
        report, paper_rho = [], None
        for other in rows:
            if other.sampler == row.sampler and other.role == row.role:
                rho = selected.get(other.id, other.intervention.get("rho_bottom", 1.0))
                value = measured[other.id].value("fid")
                report.append(RhoPoint(rho, value.value, value.low, value.high))
                if other.arm == "paper":
                    paper_rho = rho
        sampler = str(row.sampler["name"])
        title = f"{TITLES.get(sampler, sampler)}, {measured[id].nfe} NFE"
        drawn.append(
            RhoCurve(title, points, tuple(sorted(report, key=lambda p: p.rho)), selected[id], paper_rho)
        )
    name = f"{config.name}_rho.png"
    rho_curve(folder / name, drawn)
    return (
        name,
        "FID against ρ at the bottom for each sampler; the ρ of the selected row was chosen on other seeds.",
    )


def draw_samples(
    folder: Path,
    config: TableConfig,
    rows: tuple[RowConfig, ...],
    scale: Scale,
    bench: Bench,
    measurements: Mapping[str, Measurement],
    measured: Mapping[str, Result],
) -> tuple[str, str] | None:
    """Baseline and tuned images of equal seeds, for the pair of rows with the largest change of FID."""
    ratios = {
        row.id: measured[row.id].value("fid").value / measured[row.baseline].value("fid").value
        for row in rows
        if row.baseline is not None
    }
    if not ratios:
        return None
    row = config.row(min(ratios, key=lambda id: ratios[id]))
    assert row.baseline is not None
    baseline, tuned = (bench.samples(measurements[id]) for id in (row.baseline, row.id))
    names = getattr(load_dataset(scale.role(row.role).model["dataset"]), "class_names", None)
    shown = 32
    labels = (
        []
        if names is None or tuned.image_labels is None
        else [names[i] for i in tuned.image_labels[:shown].tolist()]
    )
    name = f"{config.name}_samples.png"
    sample_grid(folder / name, baseline.images[:shown], tuned.images[:shown], labels)
    pair = f"{config.row(row.baseline).label} | {row.label}"
    return name, f"Samples from equal seeds, the pair that differs most: {pair}."
