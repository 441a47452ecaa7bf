"""The dashboards as code: what they would show, built without an account."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.tables.results import TableResult
from experiments.tracking.dashboard import Place, build, sections
from experiments.tracking.runs import row_run, table_run
from scripts.tables import table_configs
from skiptune.errors import SkiptuneError
from skiptune.runtime.store import RunStore
from skiptune.runtime.tracking import installed

RESULTS = Path(__file__).resolve().parents[2] / "results/desk/skip_tuning"
PLACE = Place("somebody", "skiptune", "desk")


def test_sections_ask_for_what_runs_have(tmp_path: Path) -> None:
    config = table_configs("skip_tuning/02")["skip_tuning/02"]
    result = TableResult.from_json((RESULTS / "table_02.json").read_text())
    (section,) = sections([config], "desk")
    figures = {path.stem: path for path in RESULTS.glob("table_02_*.png")}
    whole, row = (
        table_run(result, config, figures),
        row_run(result.rows[0], result, config, RunStore(tmp_path)),
    )
    assert {section.group} == {whole.info.group, row.info.group}
    assert {key for key, _ in section.metrics} <= set(row.values) and "nfe" in row.values
    assert set(section.pictures) == {*whole.pictures, "samples"}
    assert {"results", "claims"} == set(whole.tables)


@pytest.mark.skipif(not installed("wandb_workspaces"), reason="wandb-workspaces is not installed")
def test_report_has_a_filtered_section_per_table() -> None:
    tables = list(table_configs("s2dm").values())
    report = build(tables, PLACE)
    kinds = [type(block).__name__ for block in report.blocks]
    assert kinds.count("PanelGrid") == len(tables) + 1 and kinds[0] == "TableOfContents"
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    groups = [re.findall(r"'([^']*)'", grid.runsets[0].filters)[-1] for grid in grids]
    assert groups == [*(f"s2dm/{table.name} desk" for table in tables), "training"]
    names = [type(panel).__name__ for panel in grids[0].panels]
    assert {"BarPlot", "ScatterPlot", "MediaBrowser", "WeavePanelSummaryTable"} == set(names)


@pytest.mark.skipif(installed("wandb_workspaces"), reason="wandb-workspaces is installed")
def test_without_the_package_it_is_one_line() -> None:
    with pytest.raises(SkiptuneError, match="pip install wandb-workspaces"):
        build(list(table_configs("s2dm").values()), PLACE)
