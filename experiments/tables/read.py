"""Reads a table's configuration from plain mappings (a resolved YAML file); nothing here knows Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from experiments.tables.config import (
    KINDS,
    NAMED,
    PAPERS,
    SAMPLES,
    SCALES,
    TUNED,
    ClaimConfig,
    ColumnConfig,
    FigureConfig,
    PartConfig,
    RowConfig,
    TableConfig,
    TuningConfig,
    ids_of,
)
from experiments.tables.expand import expanded
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError


def parse_table(data: Mapping[str, Any], source: str) -> TableConfig:
    """Checks a resolved table file. `source` names it in errors, e.g. "table=skip_tuning/02".

    Raises SkiptuneError (one line with the source and the key) for a missing, unknown or contradictory key.
    """
    top = Section(data, source)
    tuning = top.optional("tuning", Mapping, None)
    kinds = [kind for kind in KINDS if kind in top.data]
    if len(kinds) != 1:
        raise SkiptuneError(f"{source}: give one of {', '.join(KINDS)} with its number")
    config = TableConfig(
        paper=top.choice("paper", tuple(PAPERS)),
        kind=kinds[0],
        number=top.take(kinds[0], str if kinds[0] in NAMED else int),
        title=top.take("title", str),
        dataset=top.take("dataset", str),
        columns=tuple(_column(section) for section in top.sections("columns")),
        rows=tuple(
            _row(Section(row, section.where))
            for section in top.sections("rows")
            for row in expanded(section.data, section.where)
        ),
        claims=tuple(
            _claim(Section(claim, section.where))
            for section in top.optional_sections("claims")
            for claim in expanded(section.data, section.where)
        ),
        figures=tuple(_figure(section) for section in top.optional_sections("figures")),
        seeds=top.optional("seeds", Mapping, {}),
        block=top.optional("block", Mapping, {}),
        tuning=None if tuning is None else _tuning(Section(tuning, f"{source}: tuning")),
        notes=tuple(top.optional("notes", Sequence, ())),
        parts=tuple(_part(section) for section in top.optional_sections("parts")),
    )
    top.finish()
    _check(config, source)
    return config


def _column(section: Section) -> ColumnConfig:
    column = ColumnConfig(
        key=section.take("key", str),
        title=section.take("title", str),
        kind=section.choice("kind", ("setting", "nfe", "metric", "gain")),
        digits=section.optional("digits", int, 2),
        ratio=section.flag("ratio", True),
        shown=section.flag("shown", True),
        share=section.flag("share", False),
        of=section.optional("of", str, None),
    )
    section.finish()
    if (column.kind == "gain") != (column.of is not None):
        raise SkiptuneError(f"{section.where}: a gain, and nothing else, says `of` which metric it is")
    return column


def _part(section: Section) -> PartConfig:
    part = PartConfig(
        title=section.take("title", str),
        columns=tuple(section.take("columns", Sequence)),
        arms=tuple(section.optional("arms", Sequence, ())),
    )
    section.finish()
    return part


def _row(section: Section) -> RowConfig:
    row = RowConfig(
        id=section.take("id", str),
        label=section.take("label", str),
        arm=section.take("arm", str),
        role=section.take("role", str),
        measure=section.optional("measure", Mapping, {"kind": SAMPLES}),
        sampler=section.optional("sampler", Mapping, {}),
        intervention=section.optional("intervention", Mapping, {"name": "none"}),
        facts=section.optional("facts", Mapping, {}),
        scales=tuple(section.optional("scales", Sequence, SCALES)),
        metrics=tuple(section.optional("metrics", Sequence, ())),
        baseline=section.optional("baseline", str, None),
        paper=section.numbers("paper"),
        paper_settings=section.optional("paper_settings", Mapping, {}),
    )
    section.finish()
    if row.measure.get("kind") == SAMPLES and not row.sampler:
        raise SkiptuneError(f"{section.where}: missing key 'sampler'")
    seen = dict.fromkeys(row.facts, "facts")
    for name, group in row.groups():
        key = "kind" if name == "measure" else "name"
        if not isinstance(group.get(key), str):
            raise SkiptuneError(f"{section.where}.{name}: missing key '{key}'")
        for setting in set(group) - {key}:
            if setting in seen:
                where = f"{seen[setting]} and {name}"
                raise SkiptuneError(f"{section.where}: {where} both set '{setting}'; rename one")
            seen[setting] = name
    if not row.scales or not set(row.scales) <= set(SCALES):
        raise SkiptuneError(f"{section.where}: scales must be some of {', '.join(SCALES)}")
    return row


def _figure(section: Section) -> FigureConfig:
    parameters = {key: value for key, value in section.data.items() if key not in ("draw", "name")}
    return FigureConfig(
        section.take("draw", str), section.optional("name", str, section.data["draw"]), parameters
    )


def _claim(section: Section) -> ClaimConfig:
    claim = ClaimConfig(
        id=section.take("id", str),
        statement=section.take("statement", str),
        rule=section.take("rule", str),
        parameters=section.take("parameters", Mapping),
    )
    section.finish()
    return claim


def _tuning(section: Section) -> TuningConfig:
    tuning = TuningConfig(metric=section.take("metric", str), grids={})
    grids = Section(section.take("grids", Mapping), f"{section.where}.grids")
    section.finish()
    return TuningConfig(tuning.metric, {key: grids.floats(key) for key in list(grids.data)})


def _check(config: TableConfig, source: str) -> None:
    """What no single section can see: ids are unique, every reference has its other end."""
    seeds, block = Section(config.seeds, f"{source}: seeds"), Section(config.block, f"{source}: block")
    for scale in SCALES:
        seeds.optional(scale, Mapping, {})
        block.optional(scale, str, "")
    seeds.finish()
    block.finish()
    for what, names in (
        ("row id", [row.id for row in config.rows]),
        ("row label", [row.label for row in config.rows]),
        ("column key", [column.key for column in config.columns]),
        ("claim id", [claim.id for claim in config.claims]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SkiptuneError(f"{source}: {what} '{twice[0]}' is used twice; rename one")
    ids, metrics = {row.id for row in config.rows}, {c.key for c in config.columns if c.kind == "metric"}
    for column in config.gains:
        if column.of not in metrics:
            raise SkiptuneError(
                f"{source}: column '{column.key}' is of '{column.of}', which is no metric column"
            )
    if config.parts:
        _check_parts(config, source)
    for row in config.rows:
        if row.baseline is not None and row.baseline not in ids:
            known = ids_of(config.rows)
            raise SkiptuneError(
                f"{source}: row '{row.id}': baseline '{row.baseline}' is not a row; rows: {known}"
            )
        if unknown := sorted(set(row.metrics) - metrics):
            raise SkiptuneError(f"{source}: row '{row.id}': metric '{unknown[0]}' has no metric column")
        if unknown := sorted(set(row.paper) - metrics):
            raise SkiptuneError(f"{source}: row '{row.id}': paper value '{unknown[0]}' has no metric column")
    grids = {} if config.tuning is None else config.tuning.grids
    tuned = {row.id for row in config.rows if row.tuned is not None}
    if odd := sorted(tuned ^ set(grids)):
        raise SkiptuneError(f"{source}: tuning.grids and the '{TUNED}' rows must match; look at '{odd[0]}'")
    if config.tuning is not None and config.tuning.metric not in metrics:
        raise SkiptuneError(f"{source}: tuning.metric '{config.tuning.metric}' has no metric column")
    for key, grid in grids.items():
        if not grid or any(a >= b for a, b in pairwise(grid)):
            raise SkiptuneError(f"{source}: tuning.grids.{key} must be a rising, non-empty list of numbers")


def _check_parts(config: TableConfig, source: str) -> None:
    """Every row is in some part; arms and columns that a part names exist."""
    keys, arms = {column.key for column in config.columns}, {row.arm for row in config.rows}
    for part in config.parts:
        if unknown := sorted(set(part.columns) - keys) + sorted(set(part.arms) - arms):
            raise SkiptuneError(f"{source}: part '{part.title}' names '{unknown[0]}', which there is not")
    for row in config.rows:
        if not any(part.has(row) for part in config.parts):
            raise SkiptuneError(f"{source}: row '{row.id}' is in no part; name its arm '{row.arm}' in one")
