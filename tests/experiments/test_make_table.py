"""One table from configuration to files; rho is selected on other seeds than it is reported on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.bench import Bench
from experiments.make_table import make_table, search
from experiments.measurement import SeedBlocks
from experiments.references import FLOOR_BLOCKS, floor_identity
from experiments.registry import measurement
from experiments.samples import SampleMeasurement
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.read import parse_table
from experiments.wanted import grid_beside_one
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import provenance
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

FID = {0.6: 30.0, 0.8: 20.0, 0.9: 25.0, 1.0: 10.0}


def parsed(composed: Callable[..., dict[str, Any]], heun: list[float], unipc: list[float]) -> TableConfig:
    grids = (f"table.tuning.grids.heun_selected={heun}", f"table.tuning.grids.unipc_selected={unipc}")
    return parse_table(composed(*grids)["table"], "table")


def reported(
    scale: Scale, row: RowConfig, intervention: Mapping[str, Any], blocks: SeedBlocks
) -> SampleMeasurement:
    made = measurement(scale, row, intervention, blocks, ("fid",))
    assert isinstance(made, SampleMeasurement)
    return made


def store_records(bench: Bench, scale: Scale, table: TableConfig, fid: Mapping[float, float]) -> None:
    """Records of the selection runs, as if they had been measured."""
    for row in table.rows:
        for rho in fid if row.tuned else ():
            wanted = reported(scale, row, row.resolved(rho), scale.select)
            run = open_run(wanted.settings, bench.store)
            bench.store.open(wanted.identity).write_record(
                {
                    "run": run.id,
                    "nfe": 9,
                    "values": {"fid": [fid[rho]]},
                    "seeds": [list(bounds) for bounds in scale.select.bounds],
                    "images_per_second": None,
                    "seconds": 1.0,
                    "provenance": provenance(),
                }
            )


def test_curve_has_the_grid_and_the_untouched_network(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table = parsed(composed, [0.6, 0.8, 0.9, 1.0], [0.8])
    bench = Bench(RunStore(tmp_path), Workers(1))
    store_records(bench, scales["desk"], table, FID)
    rows = [table.row(id) for id in ("heun_selected", "unipc_selected")]
    found = search(rows, table, scales["desk"], bench)
    heun, unipc = (found[row.id] for row in rows)
    # 1 stands there once, although the grid has it too, and is never selected.
    assert [(rho, v.value) for rho, v in heun.values.items()] == list(FID.items())
    assert [(rho, v.value) for rho, v in unipc.values.items()] == [(0.8, 20.0), (1.0, 10.0)]
    assert (heun.selected, heun.at_edge) == (0.8, False)
    assert (unipc.selected, unipc.at_edge) == (0.8, True)
    assert len({result.record for result in heun.results}) == len(FID)
    assert all(value.low is None for value in heun.values.values())  # one block, no interval


def test_selected_rho_enters_the_reported_row(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]
) -> None:
    table, desk = parsed(composed, [0.6], [0.8]), scales["desk"]
    row, baseline_row = table.row("heun_selected"), table.row("heun_baseline")
    tuned = reported(desk, row, row.resolved(0.6), desk.report)
    assert tuned.settings.resolved()["intervention"]["rho_bottom"] == 0.6
    assert tuned.blocks == desk.report
    baseline = reported(desk, baseline_row, baseline_row.intervention, desk.report)
    assert baseline.settings.resolved()["intervention"] == {"name": "none"}
    assert tuned.settings.resolved()["sampler"] == baseline.settings.resolved()["sampler"]


def test_one_alone_is_no_choice(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table = parsed(composed, [1.0], [0.8])
    with pytest.raises(SkiptuneError, match="tuning.grids.heun_selected has no value but 1"):
        grid_beside_one(table, table.row("heun_selected"))
    with pytest.raises(SkiptuneError, match="no value but 1"):
        make_table(table, scales["desk"], Bench(RunStore(tmp_path), Workers(1)), tmp_path / "results")
    assert not list(tmp_path.iterdir())


ROW: dict[str, Any] = {
    "id": "{role}_s{steps}", "label": "{role}, {steps} steps", "arm": "swept", "role": "{role}",
    "sampler": {"name": "heun", "steps": "{steps}"},
    "expand": {"role": ["class_conditional_edm", "unconditional_edm"], "steps": [5, 9]},
}  # fmt: skip
OWN = {"first": 2_000_000, "count": 2, "size": 250}
FIGURE: dict[str, Any] = {"draw": "lines", "x": "steps", "y": ["fid"], "series": "role", "caption": "FID"}


@pytest.fixture
def appendix(composed: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Two roles, two numbers of steps, seeds of its own at desk scale."""
    raw = {key: value for key, value in composed()["table"].items() if key not in ("table", "tuning")}
    columns = [
        {"key": "steps", "title": "steps", "kind": "setting"},
        {"key": "fid", "title": "FID", "kind": "metric"},
        {"key": "recall", "title": "recall", "kind": "metric", "digits": 3},
    ]
    own = {"appendix": "C", "columns": columns, "rows": [ROW], "figures": [FIGURE], "claims": []}
    return {**raw, **own, "seeds": {"desk": {"report": OWN}}}


def keep(bench: Bench, identity: Mapping[str, Any], values: Mapping[str, list[float]], nfe: int) -> None:
    """A record with these values, as if it had been measured."""
    count = len(next(iter(values.values())))
    record = {
        "run": "0" * 20, "nfe": nfe, "values": dict(values), "images_per_second": None, "seconds": 1.0,
        "seeds": [[250 * i, 250 * i + 249] for i in range(count)], "provenance": provenance(),
    }  # fmt: skip
    bench.store.open(identity).write_record(record)


def test_an_appendix_of_two_roles_from_records_to_files(
    appendix: dict[str, Any], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table, bench = parse_table(appendix, "table"), Bench(RunStore(tmp_path / "outputs"), Workers(1))
    desk = scales["desk"].with_seeds({"report": OWN})
    for i, row in enumerate(table.rows):
        made = measurement(desk, row, row.intervention, desk.report, table.metrics)
        assert isinstance(made, SampleMeasurement) and made.blocks == SeedBlocks(**OWN)
        keep(bench, made.identity, {"fid": [10.0 + i, 11.0 + i], "recall": [0.5, 0.6]}, 9)
        assert made.floor_images is not None
        floor = floor_identity(made.floor_images, 250, table.metrics)
        keep(bench, floor, {"fid": [1.0] * FLOOR_BLOCKS, "recall": [0.9] * FLOOR_BLOCKS}, 0)
    result = make_table(table, scales["desk"], bench, tmp_path / "results")
    assert not list(tmp_path.rglob("*.safetensors"))  # nothing was sampled
    folder = tmp_path / "results/desk/skip_tuning"
    assert {path.name for path in folder.iterdir()} == {
        *(f"appendix_c.{suffix}" for suffix in ("md", "csv", "json")),
        "appendix_c_lines.png",
    }
    data = json.loads((folder / "appendix_c.json").read_text())
    assert data["appendix"] == "C" and data == json.loads(result.to_json())
    assert [row["values"]["fid"]["value"] for row in data["rows"]] == [10.5, 11.5, 12.5, 13.5, 1.0, 1.0]
    assert [(row["settings"]["role"], row["settings"].get("steps")) for row in data["rows"]] == [
        ("class_conditional_edm", 5), ("class_conditional_edm", 9),
        ("unconditional_edm", 5), ("unconditional_edm", 9),
        ("class_conditional_edm", None), ("unconditional_edm", None),
    ]  # fmt: skip
    assert "![FID](appendix_c_lines.png)" in (folder / "appendix_c.md").read_text()


def test_a_table_says_which_features_a_row_was_seen_through(
    appendix: dict[str, Any], scales: dict[str, Scale], tmp_path: Path
) -> None:
    row = {**ROW, "expand": {"role": ["class_conditional_edm"], "steps": [5]}}
    row["measure"] = {"kind": "samples", "features": "glyphs_vit"}
    table = parse_table({**appendix, "rows": [row], "figures": []}, "table")
    bench = Bench(RunStore(tmp_path / "outputs"), Workers(1))
    desk = scales["desk"].with_seeds({"report": OWN})
    made = measurement(desk, table.rows[0], table.rows[0].intervention, desk.report, table.metrics)
    assert isinstance(made, SampleMeasurement) and made.settings.features.name == "glyphs_vit"
    assert made.floor_images is not None and made.floor_images.features == made.settings.features
    keep(bench, made.identity, {"fid": [10.0, 11.0], "recall": [0.5, 0.6]}, 9)
    floor = floor_identity(made.floor_images, 250, table.metrics)
    keep(bench, floor, {"fid": [1.0] * FLOOR_BLOCKS, "recall": [0.9] * FLOOR_BLOCKS}, 0)
    result = make_table(table, scales["desk"], bench, tmp_path / "results")
    assert result.rows[0].settings["features"] == "glyphs_vit"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"figures": [{**FIGURE, "draw": "pie"}]}, "unknown drawing 'pie'; choose one of .*lines"),
        (
            {
                "rows": [
                    ROW,
                    {**ROW, "id": "x{role}{steps}", "label": "x{role}{steps}", "measure": {"kind": "guess"}},
                ]
            },
            "unknown kind of measurement 'guess'; choose one of samples",
        ),
        (
            {"seeds": {"desk": {"report": {**OWN, "first": 1_000_000}}}},
            "seeds.select and seeds.report overlap",
        ),
        (
            {"columns": [{"key": "beauty", "title": "beauty", "kind": "metric"}], "figures": []},
            "unknown metric 'beauty'",
        ),
        ({"rows": [{**ROW, "expand": {"role": ["nobody"], "steps": [5]}}]}, "no role .* is called 'nobody'"),
    ],
)
def test_what_does_not_exist_is_said_before_any_work(
    appendix: dict[str, Any], scales: dict[str, Scale], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    bench = Bench(RunStore(tmp_path / "outputs"), Workers(1))
    table = parse_table({**appendix, **change}, "table")
    with pytest.raises(SkiptuneError, match=message) as caught:
        make_table(table, scales["desk"], bench, tmp_path / "results")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_said_before_the_search(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table = parsed(composed, [0.6], [0.8])
    rows = (*table.rows[:-1], replace(table.rows[-1], measure={"kind": "guess"}))
    bench = Bench(RunStore(tmp_path / "outputs"), Workers(1))
    with pytest.raises(SkiptuneError, match="unknown kind of measurement 'guess'"):
        make_table(replace(table, rows=rows), scales["desk"], bench, tmp_path / "results")
    assert not list(tmp_path.iterdir())
