"""What a table (or a figure, an appendix, a supplement) is: rows, the paper's values, figures, claims.

Parsed from plain mappings (a resolved YAML file); nothing here knows Hydra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

SCALES = ("desk", "paper")
KINDS = ("table", "figure", "appendix", "supplement")  # a supplement is of ours, not of the paper
NAMED = ("appendix", "supplement")  # these have a letter or a name for a number
SAMPLES = "samples"  # the kind of measurement of a row that says nothing else
TUNED = "tuned"  # marks an intervention setting chosen on the selection seeds
PAPERS = {
    "skip_tuning": "The Surprising Effectiveness of Skip-Tuning in Diffusion Sampling (arXiv 2402.15170)",
    "s2dm": "S²-DMs: Skip-Step Diffusion Models",
    "importance_probe": "Dynamic Importance in Diffusion U-Net for Enhanced Image Synthesis "
    "(arXiv 2504.03471)",
}


@dataclass(frozen=True)
class ColumnConfig:
    """A column: a setting of the row, its measured NFE, or a metric beside the paper's value of it.

    `ratio`: whether a metric is also shown over that of the row's baseline. `shown`: whether the column is in
    the text of the table; a metric that claims alone are about need not be.
    """

    key: str
    title: str
    kind: str  # "setting", "nfe" or "metric"
    digits: int = 2
    ratio: bool = True
    shown: bool = True


@dataclass(frozen=True)
class RowConfig:
    """One measured condition.

    `measure` holds the `kind` of measurement (a key of `experiments.registry.KINDS`) and its settings;
    `sampler` and `intervention` hold a `name` and that group's own settings. An intervention setting equal to
    "tuned" is chosen on the selection seeds; several such settings get one value. `baseline` is the id of the
    row this one is compared with. `facts` are settings that change nothing in what is computed, for the
    role's model has them by itself; columns, figures and rules find them beside the others. `metrics`
    are those of the table's metric columns that the row is measured in, all if empty.
    """

    id: str
    label: str
    arm: str
    role: str
    measure: Mapping[str, Any]
    sampler: Mapping[str, Any]
    intervention: Mapping[str, Any]
    scales: tuple[str, ...]
    metrics: tuple[str, ...]
    baseline: str | None
    paper: Mapping[str, float]
    paper_settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tuned(self) -> str | None:
        """Name of the (first) intervention setting to be tuned, if any."""
        return next((key for key, value in self.intervention.items() if value == TUNED), None)

    def resolved(self, value: float) -> dict[str, Any]:
        """The intervention's settings with what is tuned set to `value`."""
        return {key: value if old == TUNED else old for key, old in self.intervention.items()}

    def settings(self, tuned: float | None = None, **more: Any) -> dict[str, Any]:
        """The row's settings as one flat mapping, for the table's JSON; `more` adds e.g. the model."""
        intervention = self.intervention if tuned is None else self.resolved(tuned)
        flat: dict[str, Any] = {"arm": self.arm, "role": self.role, **self.facts}
        for name, group in self.groups(intervention):
            flat |= {name if key in ("name", "kind") else key: value for key, value in group.items()}
        return flat | more

    def groups(self, intervention: Mapping[str, Any] | None = None) -> list[tuple[str, Mapping[str, Any]]]:
        """The groups of settings by name; that of a sampled row's measurement only if it has settings."""
        plain = self.measure == {"kind": SAMPLES}
        return [
            *([] if plain else [("measure", self.measure)]),
            *([("sampler", self.sampler)] if self.sampler else []),
            ("intervention", self.intervention if intervention is None else intervention),
        ]


@dataclass(frozen=True)
class ClaimConfig:
    """A claim and its test, both written before the run: `rule` names a function in `rules.RULES`."""

    id: str
    statement: str
    rule: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class TuningConfig:
    """The values to try on the selection seeds, by id of the tuned row; the lowest `metric` wins."""

    metric: str
    grids: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class FigureConfig:
    """A picture beside the table: `draw` names a function in `experiments.registry.DRAWINGS`."""

    draw: str
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class TableConfig:
    """One table, figure, appendix or supplement, as `kind` says.

    `number` is a letter for an appendix, a name for a supplement.

    `seeds` replaces the scale's blocks: scale -> "select" | "report" -> {first, count, size}.
    """

    paper: str
    kind: str
    number: int | str
    title: str
    dataset: str
    columns: tuple[ColumnConfig, ...]
    rows: tuple[RowConfig, ...]
    claims: tuple[ClaimConfig, ...]
    figures: tuple[FigureConfig, ...]
    tuning: TuningConfig | None
    seeds: Mapping[str, Mapping[str, Mapping[str, int]]]

    @property
    def name(self) -> str:
        """File name of its configuration and results, such as `table_02`, `figure_04`, `appendix_c`."""
        number = f"{self.number:02d}" if isinstance(self.number, int) else self.number.lower()
        return f"{self.kind}_{number}"

    @property
    def heading(self) -> str:
        return f"{self.kind.capitalize()} {self.number}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of this table's columns, in order."""
        return tuple(column.key for column in self.columns if column.kind == "metric")

    def rows_at(self, scale: str) -> tuple[RowConfig, ...]:
        """The rows of this table at `scale`, in order."""
        return tuple(row for row in self.rows if scale in row.scales)

    def row(self, id: str) -> RowConfig:
        for row in self.rows:
            if row.id == id:
                return row
        raise SkiptuneError(f"{self.paper}/{self.name} has no row '{id}'; rows: {_ids(self.rows)}")


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
        claims=tuple(_claim(section) for section in top.optional_sections("claims")),
        figures=tuple(_figure(section) for section in top.optional_sections("figures")),
        seeds=top.optional("seeds", Mapping, {}),
        tuning=None if tuning is None else _tuning(Section(tuning, f"{source}: tuning")),
    )
    top.finish()
    _check(config, source)
    return config


def _column(section: Section) -> ColumnConfig:
    column = ColumnConfig(
        key=section.take("key", str),
        title=section.take("title", str),
        kind=section.choice("kind", ("setting", "nfe", "metric")),
        digits=section.optional("digits", int, 2),
        ratio=section.flag("ratio", True),
        shown=section.flag("shown", True),
    )
    section.finish()
    return column


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


def expanded(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The rows of one with ``expand: {setting: [values]}``: one for every combination of the values.

    In its texts (id, label, baseline, ...) ``{setting}`` stands for the value; in the groups of settings a
    text that is nothing but ``{setting}`` becomes the value itself.
    """
    own = dict(row)
    axes = Section(own.pop("expand", None) or {}, f"{where}.expand")
    lists = {key: axes.take(key, Sequence) for key in list(axes.data)}
    if empty := [key for key, values in lists.items() if not values]:
        raise SkiptuneError(f"{where}.expand.{empty[0]} is empty: give at least one value")
    return [_filled(own, dict(zip(lists, values, strict=True)), where) for values in product(*lists.values())]


def _filled(value: Any, settings: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(inner, settings, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, settings, where) for inner in value]
    if not (settings and isinstance(value, str)):
        return value
    for key, setting in settings.items():
        if value == f"{{{key}}}":
            return setting
    try:
        return value.format(**settings)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise SkiptuneError(f"{where}: {value!r} does not fit its expand ({error})") from error


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
    seeds = Section(config.seeds, f"{source}: seeds")
    for scale in SCALES:
        seeds.optional(scale, Mapping, {})
    seeds.finish()
    for what, names in (
        ("row id", [row.id for row in config.rows]),
        ("row label", [row.label for row in config.rows]),
        ("column key", [column.key for column in config.columns]),
        ("claim id", [claim.id for claim in config.claims]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SkiptuneError(f"{source}: {what} '{twice[0]}' is used twice; rename one")
    ids, metrics = {row.id for row in config.rows}, {c.key for c in config.columns if c.kind == "metric"}
    for row in config.rows:
        if row.baseline is not None and row.baseline not in ids:
            known = _ids(config.rows)
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


def _ids(rows: Sequence[RowConfig]) -> str:
    return ", ".join(row.id for row in rows)
