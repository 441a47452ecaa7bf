"""What helps to read a table: gains beside the paper's, parts, shares, notes, the index's joint lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.tables.cells import sheets
from experiments.tables.config import TableConfig
from experiments.tables.index import render_index
from experiments.tables.notes import notes, setting
from experiments.tables.read import parse_table
from experiments.tables.results import ClaimResult, Provenance, RowResult, TableResult
from experiments.tables.write import write_table
from experiments.values import Value
from skiptune.errors import SkiptuneError

WHERE = Provenance("0" * 40, {"torch": "2.14.1"}, "synthetic CPU", "2026-01-02T03:04:05+00:00", 1.0)
PARTS = [
    {"title": "Scores", "arms": ["vanilla", "weighted"], "columns": ["score", "gain"]},
    {"title": "Ranks", "arms": ["ranks"], "columns": ["middle"]},
]


def raw(**more: Any) -> dict[str, Any]:
    common = {"role": "sd_turbo", "sampler": {"name": "ddim", "steps": 2}}
    return {
        "paper": "importance_probe",
        "table": 3,
        "title": "simulated",
        "dataset": "none",
        "columns": [
            {"key": "score", "title": "score", "kind": "metric", "digits": 3, "ratio": False},
            {"key": "gain", "title": "gain", "kind": "gain", "of": "score", "digits": 3},
            {"key": "middle", "title": "middle", "kind": "metric", "ratio": False, "share": True},
        ],
        "rows": [
            {**common, "id": "v", "label": "vanilla", "arm": "vanilla", "paper": {"score": 0.28}},
            {**common, "id": "w", "label": "weighted", "arm": "weighted", "baseline": "v",
             "paper": {"score": 0.284}},
            {**common, "id": "r", "label": "ranks", "arm": "ranks"},
        ],
        "claims": [{"id": "IP-C9", "statement": "S", "rule": "gains", "parameters": {"tests": {}}}],
        **more,
    }  # fmt: skip


def value(at: float, half: float) -> Value:
    return Value(at, at - half, at + half, 50, ((0, 99),))


def measured(number: int = 3, verdict: str = "supported") -> TableResult:
    record = ("0123456789abcdef0123",)
    rows = {
        "vanilla": {"score": value(0.74, 0.02)},
        "weighted": {"score": value(0.755, 0.02), "gain": value(-0.0001, 0.00001)},
        "ranks": {"middle": value(0.5, 0.1)},
    }
    units = {"ranks": "probes of one prompt"}
    results = tuple(
        RowResult(label, {"unit": units.get(label, "prompts")}, 2, values, paper, record=record)
        for (label, values), paper in zip(rows.items(), ({"score": 0.28}, {"score": 0.284}, {}), strict=True)
    )
    test = "Paired differences: all of them. Effect: score of weighted less vanilla."
    claims = (ClaimResult("IP-C9", verdict, 0.015, 0.01, 0.02, test),)
    return TableResult("importance_probe", "table", number, "desk", results, claims, WHERE)


def config(**more: Any) -> TableConfig:
    return parse_table(raw(**more), "simulated")


def test_a_gain_stands_beside_the_papers_difference() -> None:
    (sheet,) = sheets(measured(), config())
    heads = [(heading.text, heading.kind, heading.key) for heading in sheet.head[3:5]]
    assert heads == [
        ("gain here (desk scale)", "here gain", "gain"),
        ("gain in the paper", "paper gain", "score"),
    ]
    assert [cells[3:5] for cells in sheet.rows[:2]] == [
        ["–", "–"],
        ["0.000 [0.000, 0.000]", "0.004"],  # no sign before zeros alone
    ]


def test_parts_hold_their_rows_and_columns_alone() -> None:
    scores, ranks = sheets(measured(), config(parts=PARTS))
    assert [cells[0] for cells in scores.rows] == ["vanilla", "weighted"] and len(scores.head) == 5
    assert [heading.text for heading in ranks.head] == [
        "row",
        "middle",
    ]  # no value of the paper among its rows
    assert ranks.rows == [["ranks", "0.50 [0.40, 0.60]"]]
    both = [{"title": title, "columns": [title]} for title in ("score", "gain")]  # of all rows
    assert [[cells[0] for cells in sheet.rows] for sheet in sheets(measured(), config(parts=both))] == [
        ["vanilla", "weighted", "ranks"]
    ] * 2


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (PARTS[:1], "row 'r' is in no part; name its arm 'ranks'"),
        ([{**PARTS[0], "columns": ["scores"]}, PARTS[1]], "part 'Scores' names 'scores'"),
        ([*PARTS, {**PARTS[1], "arms": ["rank"]}], "part 'Ranks' names 'rank'"),
    ],
)
def test_parts_that_leave_a_row_out_are_refused(parts: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(SkiptuneError, match=words):
        config(parts=parts)


def test_a_gain_names_a_metric() -> None:
    for column in ({"of": "scor"}, {"of": None}, {"kind": "metric"}):
        columns = raw()["columns"]
        columns[1] |= column
        with pytest.raises(SkiptuneError, match="'scor', which is no metric column|says `of` which metric"):
            config(columns=columns)


def test_notes_say_units_intervals_and_what_the_table_adds() -> None:
    lines = notes(measured(), config(notes=["the order runs the other way"]))
    assert "values are means over 50 prompts, [ ] are 95% t intervals over prompts" in lines
    of_one = (
        "values are means over 50 probes of one prompt, [ ] are 95% t intervals over probes of one prompt"
    )
    assert f"{of_one}, of what either holds or not Wilson's" in lines
    assert any("interval of these pairs" in line for line in lines)
    assert "the order runs the other way" in lines


def test_only_what_is_taken_in_features_is_not_comparable_and_only_ratios_are_compared() -> None:
    def said(roles: dict[str, str], **more: Any) -> str:
        return " ".join(setting(measured(), config(**more), {"sd_turbo": roles}))

    assert "not comparable" not in said({"model": "m"})
    plain = said({"model": "m", "features": "f"})
    assert "not comparable" in plain and "ratios" not in plain
    columns = raw()["columns"]
    columns[0]["ratio"] = True
    assert "compare the ratios to the baseline" in said({"features": "f"}, columns=columns)


def test_the_index_says_what_effects_are_and_joins_the_tables_of_a_claim(tmp_path: Path) -> None:
    for number, verdict in ((3, "inconclusive"), (4, "supported")):
        write_table(measured(number, verdict), config(table=number), {}, tmp_path)
    index = (tmp_path / "README.md").read_text()
    assert "| IP-C9 supported: score of weighted less vanilla 0.015 [0.01, 0.02] |" in index
    folder = "desk/importance_probe"
    assert (
        f"- IP-C9: supported ([Table 4: simulated]({folder}/table_04.md)), "
        f"inconclusive ([Table 3: simulated]({folder}/table_03.md))\n"
    ) in index
    assert "At paper scale nothing was run yet, of any paper." in index
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/README.md").write_text("commands")
    assert "of any paper: [commands, cost and files](paper/README.md)." in render_index(tmp_path)
