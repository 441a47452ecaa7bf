"""The dashboards as code: what they would show, built without an account."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.measurement import Result
from experiments.tables.results import TableResult
from experiments.tracking.conditions import measured_run, tuned_run
from experiments.tracking.dashboard import AXES, Place, build, sections, sweeps
from experiments.tracking.runs import row_run, table_run
from experiments.tuning.search import Search, Trial
from experiments.tuning.tune import Task, Tuned
from scripts.shared.tables import table_configs
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
    assert {section.runs} == {whole.info.group, row.info.group}
    assert {key for key, _ in section.metrics} <= set(row.values) and "nfe" in row.values
    assert set(section.pictures) == {*whole.pictures, "samples"}
    assert {"results", "claims"} == set(whole.tables)


def result(fid: list[float]) -> Result:
    bounds = [[250 * i, 250 * i + 249] for i in range(len(fid))]
    stored = {"run": "0", "nfe": 9, "seconds": 1.0, "images_per_second": None, "provenance": {}}
    return Result.read("1", {**stored, "values": {"fid": fid}, "seeds": bounds})


def test_sweeps_ask_for_what_their_runs_have(task: Callable[..., Task], tmp_path: Path) -> None:
    made, fid = task(), result([4.0, 5.0])
    settings = [
        replace(made.settings, intervention={"name": "skip_tuning", "rho_bottom": rho}).resolved()
        for rho in (0.7, 0.8, 1.0)
    ]
    measured = [measured_run(fid, {"fid": fid.value("fid")}, one, RunStore(tmp_path)) for one in settings]
    assert [run.info.name for run in measured] == [
        "edm_glyphs euler steps=1 skip_tuning rho_bottom=0.7 rho_top=1.0",
        "edm_glyphs euler steps=1 skip_tuning rho_bottom=0.8 rho_top=1.0",
        "edm_glyphs euler steps=1 none",
    ]
    assert [run.values["rho_bottom"] for run in measured] == [0.7, 0.8, 1.0]
    best = Trial({"rho_bottom": 0.8}, 4.0)
    found = Tuned(made, Search((best,), best), fid, result([7.0, 8.1]), 9, ("1",))
    tuned = tuned_run(found, {}, RESULTS / "table_02_rho.png")
    assert tuned.info.name == "edm_glyphs euler steps=1 skip_tuning rho_bottom=0.8 rho_top=1.0"
    assert tuned.values["gain_low"] < tuned.values["gain"] < tuned.values["gain_high"] < 0
    singles, tunings = sweeps([table_configs("skip_tuning/02")["skip_tuning/02"]])
    for section, run in ((singles, measured[0]), (tunings, tuned)):
        assert section.runs == run.info.group == run.info.job
        asked = {f"{key}{end}" for key, _ in section.metrics for end in ("", "_low", "_high")}
        assert {*asked, *(axis for axis, _ in AXES)} <= set(run.values)


@pytest.mark.skipif(not installed("wandb_workspaces"), reason="wandb-workspaces is not installed")
def test_report_has_a_filtered_section_per_table() -> None:
    tables = list(table_configs("s2dm").values())
    report = build(tables, PLACE)
    kinds = [type(block).__name__ for block in report.blocks]
    assert kinds.count("PanelGrid") == len(tables) + 3 and kinds[0] == "TableOfContents"
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    groups = [re.findall(r"'([^']*)'", grid.runsets[0].filters)[-1] for grid in grids]
    assert groups == [*(f"s2dm/{table.name} desk" for table in tables), "measure", "tuning", "training"]
    plots = [panel for panel in grids[-3].panels if type(panel).__name__ == "ScatterPlot"]
    assert [(plot.x.name, plot.y.name) for plot in plots] == [("rho_bottom", "fid"), ("nfe", "fid")]
    names = [type(panel).__name__ for panel in grids[0].panels]
    assert {"BarPlot", "ScatterPlot", "MediaBrowser", "WeavePanelSummaryTable"} == set(names)


@pytest.mark.skipif(installed("wandb_workspaces"), reason="wandb-workspaces is installed")
def test_without_the_package_it_is_one_line() -> None:
    with pytest.raises(SkiptuneError, match="pip install wandb-workspaces"):
        build(list(table_configs("s2dm").values()), PLACE)
