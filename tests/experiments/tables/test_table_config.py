from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from skiptune.errors import SkiptuneError


def test_table_2_has_the_papers_four_rows(config: TableConfig) -> None:
    at_paper = config.rows_at("paper")
    rows = [(dict(row.sampler), row.intervention["rho_bottom"], row.paper["fid"]) for row in at_paper]
    heun, unipc = {"name": "heun", "steps": 5}, {"name": "unipc", "steps": 9}
    assert rows == [(heun, 1.0, 35.12), (heun, 0.55, 18.71), (unipc, 1.0, 5.88), (unipc, 0.68, 2.92)]
    for row in config.rows_at("paper"):
        assert row.paper_settings["rho_bottom"] == row.intervention["rho_bottom"]


def test_desk_rows_are_baseline_paper_and_selected_per_sampler(config: TableConfig) -> None:
    arms = [(row.sampler["name"], row.arm) for row in config.rows_at("desk")]
    assert arms == [(name, arm) for name in ("heun", "unipc") for arm in ("baseline", "paper", "selected")]
    assert [row.id for row in config.rows if row.tuned] == ["heun_selected", "unipc_selected"]


def test_grids_stay_below_one_and_reach_below_the_papers_rho(config: TableConfig) -> None:
    assert config.tuning is not None
    for grid in config.tuning.grids.values():
        assert max(grid) < 1 and min(grid) < 0.55 and len(grid) >= 6


def test_tuned_setting_is_resolved(config: TableConfig) -> None:
    row = config.row("heun_selected")
    assert row.resolved(0.65) == {"name": "skip_tuning", "rho_bottom": 0.65, "rho_top": 1.0}
    settings = row.settings(0.65, model="tiny")
    assert settings == {
        "arm": "selected",
        "role": "class_conditional_edm",
        "sampler": "heun",
        "steps": 5,
        "intervention": "skip_tuning",
        "rho_bottom": 0.65,
        "rho_top": 1.0,
        "model": "tiny",
    }


def _edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(raw: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        node: Any = raw
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_edit("title", ...), "missing key 'title'"),
        (_edit("titel", "x"), "unknown key 'titel'"),
        (_edit("paper", "other"), "'other' is not one of"),
        (_edit("table", "two"), "table: expected a whole number"),
        (_edit("rows", {}), "rows: expected a list"),
        (_edit("rows/0/label", ...), "rows[0]: missing key 'label'"),
        (_edit("rows/0/steps", 5), "rows[0]: unknown key 'steps'"),
        (_edit("rows/0/sampler/name", ...), "rows[0].sampler: missing key 'name'"),
        (_edit("rows/0/intervention/steps", 5), "both set 'steps'"),
        (_edit("rows/0/scales", ["laptop"]), "rows[0]: scales must be some of"),
        (_edit("block", {"laptop": "25 paths"}), "block: unknown key 'laptop'"),
        (_edit("rows/0/paper/fid", "35"), "paper.fid: expected a finite number"),
        (_edit("rows/0/paper/kid", 1.0), "paper value 'kid' has no metric column"),
        (_edit("rows/1/id", "heun_baseline"), "row id 'heun_baseline' is used twice"),
        (_edit("rows/1/baseline", "nobody"), "baseline 'nobody' is not a row"),
        (_edit("tuning/grids/heun_selected", ...), "look at 'heun_selected'"),
        (_edit("tuning/grids/heun_selected", [0.5, 0.4]), "must be a rising"),
        (_edit("tuning/metric", "kid"), "tuning.metric 'kid'"),
        (_edit("claims/0/rule", ...), "claims[0]: missing key 'rule'"),
        (_edit("columns/0/kind", "colour"), "columns[0].kind: 'colour'"),
    ],
)
def test_a_wrong_file_is_one_clear_line(raw: dict[str, Any], edit: Callable[[Any], None], words: str) -> None:
    edit(raw)
    with pytest.raises(SkiptuneError) as error:
        parse_table(raw, "table=skip_tuning/02")
    assert words in str(error.value)
    assert str(error.value).startswith(("table=skip_tuning/02: ", "table=skip_tuning/02."))
    assert "\n" not in str(error.value)


def test_settings_marked_as_tuned_get_one_value(raw: dict[str, Any]) -> None:
    _edit("rows/2/intervention/rho_top", "tuned")(raw)
    row = parse_table(raw, "table").rows[2]
    assert row.tuned == "rho_bottom"
    assert row.resolved(0.7) == {"name": "skip_tuning", "rho_bottom": 0.7, "rho_top": 0.7}
