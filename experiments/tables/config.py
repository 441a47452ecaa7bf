"""What a table (or a figure, an appendix, a supplement) is: rows, the paper's values, figures, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """A column: a setting of the row, its measured NFE, a metric beside the paper's value of it, or a gain.

    `ratio`: whether a metric is also shown over that of the row's baseline. `shown`: whether the column is in
    the text of the table; a metric that claims alone are about need not be. `share`: whether the metric is a
    share of what either holds or not of every prompt or case, 0, 1 or 1/2, so that its interval is Wilson's.
    `of`: the metric whose paired difference to the row's baseline a gain is.
    """

    key: str
    title: str
    kind: str  # "setting", "nfe", "metric" or "gain"
    digits: int = 2
    ratio: bool = True
    shown: bool = True
    share: bool = False
    of: str | None = None


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
class PartConfig:
    """Some columns, with the rows that they have something to say of: those of `arms`, all if empty."""

    title: str
    columns: tuple[str, ...]
    arms: tuple[str, ...]

    def has(self, row: RowConfig) -> bool:
        """Whether the row is in this part."""
        return not self.arms or row.arm in self.arms


@dataclass(frozen=True)
class TableConfig:
    """One table, figure, appendix or supplement, as `kind` says.

    `number` is a letter for an appendix, a name for a supplement. `notes` are said below the table. With
    `parts` its text is several tables, one below the other.

    `seeds` replaces the scale's blocks: scale -> "select" | "report" -> {first, count, size}. `block` says by
    scale what a seed block is where it is not so many images.
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
    block: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: tuple[PartConfig, ...] = ()

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

    @property
    def shares(self) -> frozenset[str]:
        """The metrics that are shares of what holds or not."""
        return frozenset(column.key for column in self.columns if column.share)

    @property
    def gains(self) -> tuple[ColumnConfig, ...]:
        """The columns of paired differences to the baseline."""
        return tuple(column for column in self.columns if column.kind == "gain")

    def rows_at(self, scale: str) -> tuple[RowConfig, ...]:
        """The rows of this table at `scale`, in order."""
        return tuple(row for row in self.rows if scale in row.scales)

    def row(self, id: str) -> RowConfig:
        for row in self.rows:
            if row.id == id:
                return row
        raise SkiptuneError(f"{self.paper}/{self.name} has no row '{id}'; rows: {ids_of(self.rows)}")


def ids_of(rows: Sequence[RowConfig]) -> str:
    """Their ids, for a message."""
    return ", ".join(row.id for row in rows)
