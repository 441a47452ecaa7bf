"""Tables that compare FID with and without Skip-Tuning (Tables 2, 4, 6).

A tuned rho is selected on some seeds and reported on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.measurement import Bench, Measurement, Result
from experiments.scale import Scale, role_descriptions
from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.figures import RhoCurve, RhoPoint, rho_curve, sample_grid
from experiments.tables.results import Provenance, RowResult, TableResult, floor_row
from experiments.tables.verdicts import Evidence, judge
from experiments.tables.write import table_folder, write_table
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.evaluation.metrics import get_metric
from skiptune.runtime.distributed import world

TITLES = {"heun": "Heun", "unipc": "UniPC", "euler": "Euler"}


def make_table(config: TableConfig, scale: Scale, bench: Bench, results: Path) -> TableResult:
    """Measure every row, judge the claims, write table and figures below ``results``."""
    rows = config.rows_at(scale.name)
    searches = {row.id: search(row, config, scale, bench) for row in rows if row.tuned}
    selected = {id: found.selected for id, found in searches.items()}

    bench.label = "report seeds"
    measurements = {row.id: condition(row, config, scale, selected.get(row.id)) for row in rows}
    measured = dict(zip(measurements, bench.measure(list(measurements.values())), strict=True))
    floors = {row.role: bench.floor(measurements[row.id]) for row in rows}

    evidence = Evidence(config, scale.name, {id: result.blocks for id, result in measured.items()})
    searched = [result for found in searches.values() for result in found.results]
    behind = [*measured.values(), *floors.values(), *searched]
    result = TableResult(
        config.paper,
        config.table,
        scale.name,
        (
            *(row_result(row, scale, searches.get(row.id), measured[row.id]) for row in rows),
            *(
                floor_row({name: f.value(name) for name in f.blocks}, (f.record, f.run), role=role)
                for role, f in floors.items()
            ),
        ),
        judge(evidence),
        Provenance.of([(r.provenance, r.seconds) for r in behind]),
    )
    if world().is_main:
        folder = table_folder(results, scale.name, config.paper)
        figures = [
            draw_curves(folder, config, rows, searches, measured),
            draw_samples(folder, config, rows, scale, bench, measurements, measured, selected),
        ]
        write_table(
            result, config, role_descriptions(rows, scale), results, [figure for figure in figures if figure]
        )
    return result


def condition(row: RowConfig, config: TableConfig, scale: Scale, rho: float | None) -> Measurement:
    """The row on the report seeds, its tuned coefficient filled in."""
    intervention = row.intervention if rho is None else row.resolved(rho)
    return scale.measurement(row.role, row.sampler, intervention, scale.report, config.metrics)


@dataclass(frozen=True)
class Search:
    """A tuned row on the selection seeds: the metric at each rho tried and at 1, and the best below 1."""

    points: tuple[RhoPoint, ...]
    results: tuple[Result, ...]
    selected: float

    @property
    def at_edge(self) -> bool:
        """Whether the best rho is the lowest tried: the optimum may lie further down."""
        return self.selected == min(point.rho for point in self.points)


def search(row: RowConfig, config: TableConfig, scale: Scale, bench: Bench) -> Search:
    """Measure the grid of a tuned row, and rho = 1 for the figure, on the selection seeds."""
    assert config.tuning is not None
    metric = config.tuning.metric
    bench.label = f"selection seeds, {row.sampler['name']}"
    grid = tuple(dict.fromkeys((*grid_below_one(config, row), 1.0)))
    wanted = [
        scale.measurement(row.role, row.sampler, row.resolved(rho), scale.select, (metric,)) for rho in grid
    ]
    results = bench.measure(wanted)
    values = [result.value(metric) for result in results]
    points = tuple(RhoPoint(rho, v.value, v.low, v.high) for rho, v in zip(grid, values, strict=True))
    best = min if get_metric(metric).lower_is_better else max
    chosen = best((point for point in points if point.rho < 1), key=lambda point: point.value)
    return Search(points, tuple(results), chosen.rho)


def grid_below_one(config: TableConfig, row: RowConfig) -> tuple[float, ...]:
    """The values of rho to choose among. Raises SkiptuneError if none is below 1, the untouched network."""
    assert config.tuning is not None
    grid = tuple(rho for rho in config.tuning.grids[row.id] if rho != 1)
    if not grid:
        raise SkiptuneError(f"tuning.grids.{row.id} has no value below 1; give at least one")
    return grid


def row_result(row: RowConfig, scale: Scale, found: Search | None, measured: Result) -> RowResult:
    """The row with the hashes of all records behind it: its own, its sampling run, those of its search."""
    role = scale.role(row.role)
    rho = None if found is None else found.selected
    more = {"model": role.model["name"], "features": role.features["name"]}
    if found is not None:
        more["search"] = "best at the lowest rho tried" if found.at_edge else "best inside the grid"
    return RowResult(
        label=row.label,
        settings=row.settings(rho, **more),
        nfe=measured.nfe,
        values={name: measured.value(name) for name in measured.blocks},
        paper=row.paper,
        record=(measured.record, measured.run, *(r.record for r in (found.results if found else ()))),
    )


def draw_curves(
    folder: Path,
    config: TableConfig,
    rows: tuple[RowConfig, ...],
    searches: Mapping[str, Search],
    measured: Mapping[str, Result],
) -> tuple[str, str] | None:
    """The metric against rho for every tuned row, with the rows of the same sampler on the report seeds."""
    if not searches or config.tuning is None:
        return None
    drawn, metric = [], config.tuning.metric
    for id, found in searches.items():
        row = config.row(id)
        report, paper_rho = [], None
        for other in rows:
            if other.sampler == row.sampler and other.role == row.role:
                tuned = searches.get(other.id)
                rho = tuned.selected if tuned else other.intervention.get("rho_bottom", 1.0)
                value = measured[other.id].value(metric)
                report.append(RhoPoint(rho, value.value, value.low, value.high))
                if other.arm == "paper":
                    paper_rho = rho
        sampler = str(row.sampler["name"])
        title = f"{TITLES.get(sampler, sampler)}, {measured[id].nfe} NFE"
        drawn.append(
            RhoCurve(
                title, found.points, tuple(sorted(report, key=lambda p: p.rho)), found.selected, paper_rho
            )
        )
    name = f"{config.name}_rho.png"
    rho_curve(folder / name, drawn, metric=metric.upper())
    edges = [config.row(id).label for id, found in searches.items() if found.at_edge]
    note = f" The best ρ is the lowest one tried for: {', '.join(edges)}." if edges else ""
    caption = f"{metric.upper()} against ρ at the bottom for each sampler; ρ was selected on other seeds."
    return name, caption + note


def draw_samples(
    folder: Path,
    config: TableConfig,
    rows: tuple[RowConfig, ...],
    scale: Scale,
    bench: Bench,
    measurements: Mapping[str, Measurement],
    measured: Mapping[str, Result],
    selected: Mapping[str, float],
) -> tuple[str, str] | None:
    """Baseline and tuned images of equal seeds, for the pair of rows with the lowest ratio of the metric."""
    metric = config.metrics[0]
    ratios = {
        row.id: measured[row.id].value(metric).value / measured[row.baseline].value(metric).value
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
    sampler = TITLES.get(str(row.sampler["name"]), str(row.sampler["name"]))
    rho = selected.get(row.id, row.intervention.get("rho_bottom"))
    titles = (f"{sampler}, ρ = 1", f"{sampler}, ρ = {rho:g} at the bottom")
    sample_grid(folder / name, baseline.images[:shown], tuned.images[:shown], labels, titles=titles)
    pair = f"{config.row(row.baseline).label} | {row.label}"
    return name, f"Samples from equal seeds, of the pair with the lowest {metric.upper()} ratio: {pair}."
