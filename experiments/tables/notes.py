"""What a measured table says around its cells: setting, floors, intervals, protocols, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.tables.cells import interval, ratio_shown, suspect
from experiments.tables.config import TableConfig
from experiments.tables.results import FLOOR, RowResult, TableResult
from experiments.values import Value
from skiptune.evaluation.metrics import get_metric
from skiptune.evaluation.protocols import get_protocol, resize_rule

Roles = Mapping[str, Mapping[str, str]]  # role -> what played it: model, data, features


def title(config: TableConfig) -> str:
    return f"{config.heading}: {config.title}"


def setting(result: TableResult, config: TableConfig, roles: Roles) -> list[str]:
    """What was measured, and why it may or may not be compared with the paper's column."""
    lines = []
    for role in keys_of({row.role: None} for row in config.rows_at(result.scale)):
        played = "; ".join(f"{key}: {value}" for key, value in roles.get(role, {}).items())
        lines.append(f"`{role}` here: {played or 'not stated'}")
    lines.append(f"the paper's column: {config.dataset}")
    if result.scale == "desk" and any("features" in played for played in roles.values()):
        ratios = "; compare the ratios to the baseline, which the floor, if any, keeps from falling further"
        compare = ratios if ratio_shown(config) else ""
        lines.append(
            "desk metrics live in the space of the desk features on desk data: **not comparable in absolute "
            f"value with the paper's**{compare}"
        )
    return lines


def notes(result: TableResult, config: TableConfig) -> list[str]:
    """The floor and how to read the intervals."""
    notes = []
    for column in config.columns:
        for row in result.floors:
            floor = row.values.get(column.key)
            if floor is None:
                continue
            lower = get_metric(column.key).lower_is_better
            of = f" of `{row.label.removeprefix(FLOOR + ', ')}`" if len(result.floors) > 1 else ""
            text = f"between real images{of} and the reference {column.title} is {interval(floor, column)}"
            best, room = ("lowest", "below") if lower else ("highest", "above")
            notes.append(f"floor: {text}, about the {best} value to expect of a perfect model")
            if at_floor := _at_floor(result, column.key, row, lower):
                notes.append(f"rows at the floor, with little room {room}: {at_floor}")
    groups = keys_of(
        {(v.n, v.images): None}
        for row in result.rows
        if row not in result.floors and "unit" not in row.settings
        for v in row.values.values()
        if v.n == 1 or v.low is not None  # what a protocol makes without an interval is said below
    )
    for n, images in groups:
        each = config.block.get(result.scale, f"{images // n:,} images")
        if n > 1:
            notes.append(f"values are means over {n} seed blocks of {each} each, [ ] are 95% intervals")
        else:
            notes.append(f"values are from one block of {each}, without an interval")
    for unit in keys_of({row.settings["unit"]: None} for row in result.rows if "unit" in row.settings):
        of_unit = [row for row in result.rows if row.settings.get("unit") == unit]
        counts = sorted({value.n for row in of_unit for value in row.values.values()})
        counted = " or ".join(str(count) for count in counts)
        shares = any(metric in config.shares for row in of_unit for metric in row.values)
        wilson = ", of what either holds or not Wilson's" if shares else ""
        notes.append(f"values are means over {counted} {unit}, [ ] are 95% t intervals over {unit}{wilson}")
    if config.gains:
        notes.append(
            "a gain is the mean difference to the row's baseline on equal prompts and noise, with the "
            "interval of these pairs: it can tell rows apart whose own intervals overlap"
        )
    return [*notes, *config.notes, *_suspects(result, config), *_protocols(result)]


def _protocols(result: TableResult) -> list[str]:
    """How values of generated images were made, once per protocol and extractor."""
    made: dict[tuple[str, str], Value] = {}
    for row in result.rows:
        if "protocol" in row.settings and row.values:
            made.setdefault(
                (row.settings["protocol"], row.settings["features"]), next(iter(row.values.values()))
            )
    lines = []
    for (name, features), value in made.items():
        done = get_protocol(name).describe(value.n, value.images // value.n)
        lines.append(f"protocol {done}; uint8 images; resize of {features}: {resize_rule(features)}")
    return lines


def _at_floor(result: TableResult, metric: str, floor: RowResult, lower_is_better: bool) -> str:
    """Labels of the rows of the floor's roles whose interval meets the floor's or lies beyond it."""
    rows = [row for row in result.rows if metric in row.values and row not in result.floors]
    rows = [row for row in rows if row.settings.get("role") in floor.settings["role"].split(", ")]
    low, high = _ends(floor.values[metric])
    beyond = [
        row.label
        for row in rows
        for own_low, own_high in [_ends(row.values[metric])]
        if (own_low <= high if lower_is_better else own_high >= low)
    ]
    return ", ".join(beyond)


def _ends(value: Value) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    low, high = value.low, value.high
    return value.value if low is None else low, value.value if high is None else high


def _suspects(result: TableResult, config: TableConfig) -> list[str]:
    """What the marked cells of the paper should say."""
    titles = {column.key: (column.title, column.digits) for column in config.columns}
    found = [
        f"{row.label}, {titles[key][0]}: {value:.{titles[key][1] + 1}f}"
        for row in config.rows_at(result.scale)
        for key, value in suspect(row).items()
    ]
    return [f"? printed so, but at odds with its table; probably {'; '.join(found)}"] if found else []


def provenance(result: TableResult) -> str:
    p = result.provenance
    packages = ", ".join(f"{name} {version}" for name, version in sorted(p.packages.items()))
    records = sum(len(row.record) for row in result.rows)
    return (
        f"Commit {p.commit}; {p.device}; {packages}; started {p.started}, {p.seconds:,.0f} s; "
        f"{records} run records (hashes in the JSON beside this file)."
    )


def keys_of(mappings: Any) -> list[Any]:
    """The keys of all mappings in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
