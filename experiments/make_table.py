"""One table from its configuration to its files: search, measure, judge, draw, write.

A tuned coefficient is selected on some seeds and reported on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.bench import Bench
from experiments.drawings.made import Made, Search
from experiments.importance_probe.cases import CaseMeans
from experiments.importance_probe.prompt_means import PromptMeans
from experiments.learned import learned_coefficients
from experiments.measurement import UNBIASED, Measurement, Result
from experiments.registry import drawing, kind_of
from experiments.roles import role_descriptions
from experiments.samples import SampleMeasurement
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.index import table_folder
from experiments.tables.results import Provenance, RowResult, TableResult, floor_row, not_run
from experiments.tables.rules import Evidence, check_rules, judge
from experiments.tables.rules.evidence import undecided
from experiments.tables.write import write_table
from experiments.values import Value
from experiments.wanted import best_value, grid_measurements, reported, seeded
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world


@dataclass(frozen=True)
class Rows:
    """Rows by id with all that was measured for them."""

    searches: dict[str, Search] = field(default_factory=dict)
    measurements: dict[str, Measurement] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)


def make_table(config: TableConfig, scale: Scale, bench: Bench, results: Path) -> TableResult:
    """Measure every row, judge the claims, write table and figures below ``results``.

    With a bench that does not compute, rows that are not in its store are named with the reason; figures and
    verdicts need all rows.

    Raises:
        SkiptuneError: what the configuration names does not exist, a file is missing, a measurement failed.
    """
    scale = seeded(scale, config)
    drawings = [drawing(figure) for figure in config.figures]
    rows = config.rows_at(scale.name)
    check_rules(config.claims)  # what does not exist is said before hours of work
    lacking: dict[str, str] = {}
    if bench.computes:
        found = measure_rows(rows, config, scale, bench)
    else:
        found, lacking = stored_rows(rows, config, scale, bench)
    there = [row for row in rows if row.id not in lacking]
    measured, searches, measurements = found.results, found.searches, found.measurements
    floors = measure_floors(there, measurements, bench)

    selected = {id: chosen.selected for id, chosen in searches.items()}
    sampled = {id: m for id, m in measurements.items() if isinstance(m, SampleMeasurement)}
    acted: dict[str, Mapping[str, Any]] = {id: m.settings.intervention for id, m in sampled.items()}
    acted |= {id: result.chosen for id, result in measured.items() if result.chosen}
    units = {id: m.unit for id, m in measurements.items() if isinstance(m, PromptMeans | CaseMeans)}
    evidence = Evidence(
        config,
        scale.name,
        {id: r.blocks for id, r in measured.items()},
        selected,
        acted,
        units,
        {role: {name: f.value(name).value for name in f.blocks} for f, roles in floors for role in roles},
    )
    missing = f"not measured: {', '.join(lacking)}"
    searched = [result for chosen in searches.values() for result in chosen.results]
    behind = [
        *(part for row in measured.values() for part in row.parts),
        *(floor for floor, _ in floors),
        *searched,
    ]
    result = TableResult(
        config.paper,
        config.kind,
        config.number,
        scale.name,
        (
            *(
                not_run(row.label, row.settings(), row.paper, lacking[row.id])
                if row.id in lacking
                else row_result(row, config, scale, found)
                for row in rows
            ),
            *(
                floor_row(
                    {name: floor.value(name) for name in floor.blocks},
                    (floor.record, floor.run),
                    roles,
                    scale.role(roles[0]).model["dataset"],
                    alone=len(floors) == 1,
                )
                for floor, roles in floors
            ),
        ),
        tuple(undecided(claim, "not run", missing) for claim in config.claims)
        if lacking
        else judge(evidence),
        Provenance.of([(r.provenance, r.seconds) for r in behind]),
    )
    made = Made(config, scale, bench, rows, measurements, measured, searches)
    if world().is_main:
        folder, pictures = table_folder(results, scale.name, config.paper), []
        for draw, figure in zip(drawings, config.figures, strict=True) if not lacking else ():
            name = f"{config.name}_{figure.name}.png"
            caption = draw(folder / name, figure, made)
            pictures += [] if caption is None else [(name, caption)]
        write_table(result, config, role_descriptions(rows, scale), results, pictures)
    return result


def measure_rows(rows: Sequence[RowConfig], config: TableConfig, scale: Scale, bench: Bench) -> Rows:
    """Search and measure these rows, all together. ``scale``: of ``seeded``. Raises as ``make_table``."""
    for row in rows:
        kind_of(row)
        check_training_seeds(row, config, scale)
    searches = search([row for row in rows if row.tuned], config, scale, bench)
    bench.label = "report seeds"
    trained: dict[str, list[Measurement]] = {}
    for row in rows:
        chosen = searches.get(row.id)
        trained[row.id] = reported(row, config, scale, None if chosen is None else chosen.selected)
    parts = iter(bench.measure([one for several in trained.values() for one in several]))
    results = {id: Result.joined([next(parts) for _ in several]) for id, several in trained.items()}
    return Rows(searches, {id: several[0] for id, several in trained.items()}, results)


def stored_rows(
    rows: Sequence[RowConfig], config: TableConfig, scale: Scale, bench: Bench
) -> tuple[Rows, dict[str, str]]:
    """The rows that a bench without computing has, and why it has not the others.

    Raises:
        SkiptuneError: it has none.
    """
    found, lacking = Rows(), {}
    for row in rows:
        try:
            one = measure_rows([row], config, scale, bench)
        except SkiptuneError as error:
            lacking[row.id] = str(error)
            continue
        found.searches.update(one.searches)
        found.measurements.update(one.measurements)
        found.results.update(one.results)
    if not found.results:
        raise SkiptuneError(
            f"no row of {config.paper}/{config.name} is there: {next(iter(lacking.values()))}"
        )
    return found, lacking


def check_training_seeds(row: RowConfig, config: TableConfig, scale: Scale) -> None:
    """Raises SkiptuneError for a row and a baseline whose blocks are of different training seeds."""
    if row.baseline is None:
        return
    own, other = (scale.role(name) for name in (row.role, config.row(row.baseline).role))
    if own.suffixes != other.suffixes:
        raise SkiptuneError(
            f"row '{row.id}' has models of {len(own.suffixes)} training seeds, its baseline of "
            f"{len(other.suffixes)}: their blocks do not pair; train both from equal seeds"
        )


def measure_floors(
    rows: Sequence[RowConfig], measurements: Mapping[str, Measurement], bench: Bench
) -> list[tuple[Result, list[str]]]:
    """Real against real images for every role with generated images; roles of equal images share one."""
    found: dict[str, tuple[Result, list[str]]] = {}
    seen: set[str] = set()
    for row in rows:
        condition = measurements[row.id]
        if row.role in seen or not isinstance(condition, SampleMeasurement):
            continue
        floor = bench.floor(condition)
        if floor is not None:
            seen.add(row.role)
            found.setdefault(floor.record, (floor, []))[1].append(row.role)
    return list(found.values())


def search(rows: Sequence[RowConfig], config: TableConfig, scale: Scale, bench: Bench) -> dict[str, Search]:
    """Measure the grids of tuned rows, each with 1 for the figure, on the selection seeds; by id."""
    bench.label = "selection seeds"
    wanted = {row.id: grid_measurements(row, config, scale) for row in rows}
    measured = iter(bench.measure([one for grid in wanted.values() for one in grid.values()]))
    found = {}
    for id, grid in wanted.items():
        assert config.tuning is not None
        results = [next(measured) for _ in grid]
        pairs = zip(grid, results, strict=True)
        values = {value: result.value(config.tuning.metric) for value, result in pairs}
        found[id] = Search(values, tuple(results), best_value(config, values))
    return found


def row_result(row: RowConfig, config: TableConfig, scale: Scale, found: Rows) -> RowResult:
    """The row with the hashes of all records behind it: its own, its run, those of its search."""
    chosen, measured, condition = (
        found.searches.get(row.id),
        found.results[row.id],
        found.measurements[row.id],
    )
    role = scale.role(row.role)
    features = row.measure.get("features", role.features["name"])
    more = {"model": role.description["model"], "features": features, **measured.chosen}
    if chosen is not None:
        more |= {"search": "best at an edge of the grid" if chosen.at_edge else "best inside the grid"}
    if isinstance(condition, PromptMeans | CaseMeans):
        more |= {"unit": condition.unit}
        if role.scorer is not None:
            more |= {"scorer": role.scorer["name"]}
    protocol = UNBIASED
    if isinstance(condition, SampleMeasurement):
        protocol = scale.protocol
        more |= {"protocol": protocol.name}
        if "learned" in row.intervention:
            acted = condition.settings.intervention
            file = learned_coefficients(row.intervention["learned"], role, scale.checkpoints)
            more |= {"rho": acted["rho"], "rho_max": max(acted["rho"]), "sha256": file.sha256}
    values = {
        name: measured.share(name) if name in config.shares else measured.value(name, protocol)
        for name in measured.blocks
    }
    return RowResult(
        label=row.label,
        settings=row.settings(None if chosen is None else chosen.selected, **more),
        nfe=measured.nfe,
        values=values | gains(row, config, found),
        paper=row.paper,
        record=(
            *(id for part in measured.parts for id in (part.record, part.run)),
            *(r.record for r in (chosen.results if chosen else ())),
        ),
    )


def gains(row: RowConfig, config: TableConfig, found: Rows) -> dict[str, Value]:
    """The paired differences to the row's baseline by the table's columns of them, where both are there."""
    own, base = found.results[row.id], found.results.get(row.baseline or "")
    wanted = {column.key: column.of for column in config.gains if column.of is not None}
    return {
        key: own.over(base, metric)
        for key, metric in wanted.items()
        if base is not None and metric in own.blocks and metric in base.blocks
    }
