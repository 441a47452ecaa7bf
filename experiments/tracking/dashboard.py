"""A dashboard of a paper on the site of Weights & Biases, as code: a section per table, then further runs.

The runs are those of ``experiments.tracking``: a group per table, a kind (job type) for each program beside;
metrics in the summary, tables and pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.tables.config import PAPERS, TableConfig
from experiments.tables.notes import title
from experiments.tracking.conditions import MEASURE, TUNING
from skiptune.errors import SkiptuneError
from skiptune.evaluation.metrics import METRICS
from skiptune.runtime.tracking import STEP, installed

TRAINING = "training"  # the kind of training runs
AXES = (("rho_bottom", "rho at the bottom"), ("nfe", "NFE"))  # of sweeps


@dataclass(frozen=True)
class Place:
    """Where the runs are: a user or team, a project, and the scale of the tables."""

    entity: str
    project: str
    scale: str


@dataclass(frozen=True)
class Section:
    """One table, or the runs of one program: which runs it shows and which of their values.

    Attributes:
        runs: their group for a table, their kind (job type) for a program.
        metrics: (key, title) of the metrics, of a table those of its columns.
        pictures: names of the figures, and of the rows' grids of images.
    """

    heading: str
    text: str
    runs: str
    metrics: tuple[tuple[str, str], ...]
    pictures: tuple[str, ...]


def sections(tables: Sequence[TableConfig], scale: str) -> list[Section]:
    """A section for each table, in their order."""
    return [
        Section(
            heading=title(table),
            text=f"Setting of the paper: {table.dataset}.",
            runs=f"{table.paper}/{table.name} {scale}",
            metrics=tuple((column.key, column.title) for column in table.columns if column.kind == "metric"),
            pictures=(*(f"{table.name}_{figure.name}" for figure in table.figures), "samples"),
        )
        for table in tables
    ]


def sweeps(tables: Sequence[TableConfig]) -> list[Section]:
    """The conditions measured by themselves, by the metrics of images that the tables have; the tunings."""
    keys = dict.fromkeys(column.key for table in tables for column in table.columns if column.key in METRICS)
    metrics = tuple((key, key.replace("_", " ")) for key in keys)
    gain = (("gain", "Gain over rho = 1"),)
    return [
        Section("Single conditions", "Runs of measure.py.", MEASURE, metrics, ("samples",)),
        Section("Tuning", "Runs of tune.py, at the rho that each recommends.", TUNING, gain, ("search",)),
    ]


def build(tables: Sequence[TableConfig], place: Place) -> Any:
    """The report of one paper's tables, not saved yet; needs no account and no network.

    Raises:
        SkiptuneError: wandb-workspaces is not installed.
    """
    if not installed("wandb_workspaces"):
        raise SkiptuneError("dashboards need the package wandb-workspaces: pip install wandb-workspaces")
    made: Any = importlib.import_module("wandb_workspaces.reports.v2")
    blocks: list[Any] = [made.TableOfContents()]
    for section in sections(tables, place.scale):
        runs = runset(made, place, "Group", section.runs)
        blocks += [made.H2(text=section.heading), made.P(text=section.text)]
        blocks.append(made.PanelGrid(runsets=[runs], panels=panels(made, section)))
    for section in sweeps(tables):
        runs = runset(made, place, "JobType", section.runs)
        blocks += [made.H2(text=section.heading), made.P(text=section.text)]
        blocks.append(made.PanelGrid(runsets=[runs], panels=sweep_panels(made, section)))
    curves = [
        made.LinePlot(title=key.replace("_", " "), x=STEP, y=[key]) for key in ("loss", "learning_rate")
    ]
    training = runset(made, place, "JobType", TRAINING)
    blocks += [made.H2(text="Training"), made.PanelGrid(runsets=[training], panels=curves)]
    name, _, where = PAPERS[tables[0].paper].partition(" (")
    return made.Report(
        entity=place.entity,
        project=place.project,
        title=f"{name}, {place.scale} scale",
        description=where.removesuffix(")"),
        blocks=blocks,
    )


def runset(made: Any, place: Place, by: str, value: str) -> Any:
    """The runs of a group, or of a kind."""
    return made.Runset(
        entity=place.entity, project=place.project, name=value, filters=f"Metric('{by}') = '{value}'"
    )


def panels(made: Any, section: Section) -> list[Any]:
    """Verdicts and numbers as tables, each metric as bars and against the evaluations, pictures."""
    found = [made.WeavePanelSummaryTable(table_name=name) for name in ("claims", "results")]
    for key, text in section.metrics:
        metric = made.SummaryMetric(key)
        found.append(made.BarPlot(title=text, metrics=[metric]))
        found.append(made.ScatterPlot(title=f"{text} by NFE", x=made.SummaryMetric("nfe"), y=metric))
    return found + media(made, section)


def sweep_panels(made: Any, section: Section) -> list[Any]:
    """Each metric against rho and NFE, and its interval as bars: a scatter plot has no whiskers."""
    found = []
    for key, text in section.metrics:
        for axis, name in AXES:
            x, y = made.SummaryMetric(axis), made.SummaryMetric(key)
            found.append(made.ScatterPlot(title=f"{text} by {name}", x=x, y=y))
        ends = [made.SummaryMetric(name) for name in (f"{key}_low", key, f"{key}_high")]
        found.append(made.BarPlot(title=f"{text} with its 95% interval", metrics=ends))
    return found + media(made, section)


def media(made: Any, section: Section) -> list[Any]:
    return [made.MediaBrowser(title=name, media_keys=[name]) for name in section.pictures]
