"""A dashboard of a paper on the site of Weights & Biases, as code: a section per table.

The runs are those of ``experiments.tracked``: a group per table, metrics in the summary, tables and pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.tables.config import PAPERS, TableConfig
from experiments.tables.notes import title
from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import STEP, installed

TRAINING = "training"  # the group of training runs


@dataclass(frozen=True)
class Place:
    """Where the runs are: a user or team, a project, and the scale of the tables."""

    entity: str
    project: str
    scale: str


@dataclass(frozen=True)
class Section:
    """One table: which runs it shows and which of their values.

    Attributes:
        group: of its runs.
        metrics: (key, title) of its metric columns.
        pictures: names of its figures, and of the rows' grids of images.
    """

    heading: str
    text: str
    group: str
    metrics: tuple[tuple[str, str], ...]
    pictures: tuple[str, ...]


def sections(tables: Sequence[TableConfig], scale: str) -> list[Section]:
    """A section for each table, in their order."""
    return [
        Section(
            heading=title(table),
            text=f"Setting of the paper: {table.dataset}.",
            group=f"{table.paper}/{table.name} {scale}",
            metrics=tuple((column.key, column.title) for column in table.columns if column.kind == "metric"),
            pictures=(*(f"{table.name}_{figure.name}" for figure in table.figures), "samples"),
        )
        for table in tables
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
        runs = runset(made, place, section.group)
        blocks += [made.H2(text=section.heading), made.P(text=section.text)]
        blocks.append(made.PanelGrid(runsets=[runs], panels=panels(made, section)))
    curves = [
        made.LinePlot(title=key.replace("_", " "), x=STEP, y=[key]) for key in ("loss", "learning_rate")
    ]
    training = runset(made, place, TRAINING)
    blocks += [made.H2(text="Training"), made.PanelGrid(runsets=[training], panels=curves)]
    name, _, where = PAPERS[tables[0].paper].partition(" (")
    return made.Report(
        entity=place.entity,
        project=place.project,
        title=f"{name}, {place.scale} scale",
        description=where.removesuffix(")"),
        blocks=blocks,
    )


def runset(made: Any, place: Place, group: str) -> Any:
    """The runs of a group."""
    return made.Runset(
        entity=place.entity, project=place.project, name=group, filters=f"Metric('Group') = '{group}'"
    )


def panels(made: Any, section: Section) -> list[Any]:
    """Verdicts and numbers as tables, each metric as bars and against the evaluations, pictures."""
    found = [made.WeavePanelSummaryTable(table_name=name) for name in ("claims", "results")]
    for key, text in section.metrics:
        metric = made.SummaryMetric(key)
        found.append(made.BarPlot(title=text, metrics=[metric]))
        found.append(made.ScatterPlot(title=f"{text} by NFE", x=made.SummaryMetric("nfe"), y=metric))
    found += [made.MediaBrowser(title=name, media_keys=[name]) for name in section.pictures]
    return found
