"""Rows written once and expanded; figures and appendices beside tables; drawings, seeds, measurements."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.tables.config import TableConfig
from experiments.tables.contract import validate_table_json
from experiments.tables.index import render_index
from experiments.tables.read import parse_table
from experiments.tables.render import render_markdown, render_text
from experiments.tables.results import FLOOR, TableResult, floor_row
from experiments.tables.write import write_table
from experiments.values import Value
from skiptune.errors import SkiptuneError

Roles = Mapping[str, Mapping[str, str]]
EXPANDED = {
    "id": "s{steps}_r{rho}",
    "label": "{steps} steps, ρ = {rho:.2f}",
    "arm": "swept",
    "role": "class_conditional_edm",
    "sampler": {"name": "heun", "steps": "{steps}"},
    "intervention": {"name": "skip_tuning", "rho_bottom": "{rho}"},
    "baseline": "s{steps}_r1.0",
    "paper_settings": {"grid": ["{steps}", "of {steps}"]},
    "expand": {"steps": [5, 9], "rho": [0.8, 1.0]},
}


def with_rows(raw: dict[str, Any], *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The table with these rows instead of its own; nothing is tuned or claimed."""
    return {**raw, "rows": list(rows), "tuning": None, "claims": [], "figures": [], **more}


def renamed(raw: dict[str, Any], kind: str, number: Any) -> dict[str, Any]:
    return {kind: number, **{key: value for key, value in raw.items() if key != "table"}}


def test_every_combination_is_a_row(raw: dict[str, Any]) -> None:
    rows = parse_table(with_rows(raw, EXPANDED), "table").rows
    assert [row.id for row in rows] == ["s5_r0.8", "s5_r1.0", "s9_r0.8", "s9_r1.0"]
    assert [row.label for row in rows][:2] == ["5 steps, ρ = 0.80", "5 steps, ρ = 1.00"]
    assert [row.baseline for row in rows] == ["s5_r1.0", "s5_r1.0", "s9_r1.0", "s9_r1.0"]
    # A text that is nothing but the placeholder becomes the value, with its type.
    settings = [(row.sampler["steps"], row.intervention["rho_bottom"]) for row in rows]
    assert settings == [(5, 0.8), (5, 1.0), (9, 0.8), (9, 1.0)]
    assert {(type(steps), type(rho)) for steps, rho in settings} == {(int, float)}
    assert rows[0].paper_settings == {"grid": [5, "of 5"]}


def test_values_of_any_kind_stay_what_they_are(raw: dict[str, Any]) -> None:
    row = {**EXPANDED, "id": "{name}", "label": "{name}", "baseline": None}
    row["intervention"] = {"name": "{name}", "on": "{on}", "levels": "{levels}"}
    row["expand"] = {"name": ["a", "b"], "on": [True], "levels": [[1, 2]], "steps": [3], "rho": [1]}
    first, second = parse_table(with_rows(raw, row), "table").rows
    assert first.intervention == {"name": "a", "on": True, "levels": [1, 2]}
    assert (second.id, second.label, second.sampler) == ("b", "b", {"name": "heun", "steps": 3})


def test_without_expand_braces_are_braces(raw: dict[str, Any]) -> None:
    row = {**raw["rows"][0], "label": "{steps} and {}"}
    assert parse_table(with_rows(raw, row), "table").rows[0].label == "{steps} and {}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "{step} steps"}, "'{step} steps' does not fit its expand"),
        ({"label": "{} steps"}, "does not fit its expand"),
        ({"label": "{steps"}, "does not fit its expand"),
        ({"label": "{steps.name} steps"}, "does not fit its expand"),
        ({"label": "{steps[0]} steps"}, "does not fit its expand"),
        ({"label": "{rho:d}"}, "does not fit its expand"),
        ({"sampler": {"name": "heun", "steps": "{speed}"}}, "'{speed}' does not fit its expand"),
        ({"id": "row"}, "row id 'row' is used twice"),
        ({"label": "row"}, "row label 'row' is used twice"),
        ({"expand": {"steps": 5, "rho": [0.8]}}, "rows[0].expand.steps: expected a list, found 5"),
        ({"expand": [5, 9]}, "rows[0].expand: expected a mapping"),
    ],
)
def test_a_wrong_expansion_is_one_clear_line(raw: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(SkiptuneError) as caught:
        parse_table(with_rows(raw, {**EXPANDED, "baseline": None, **change}), "table=x")
    assert words in str(caught.value) and str(caught.value).startswith("table=x: ")
    assert "\n" not in str(caught.value)


KINDS = [
    ("table", 2, "table_02", "Table 2"),
    ("figure", 4, "figure_04", "Figure 4"),
    ("figure", 12, "figure_12", "Figure 12"),
    ("appendix", "C", "appendix_c", "Appendix C"),
    ("supplement", "readings", "supplement_readings", "Supplement readings"),
]


@pytest.mark.parametrize(("kind", "number", "name", "heading"), KINDS)
def test_names_and_headings(raw: dict[str, Any], kind: str, number: Any, name: str, heading: str) -> None:
    config = parse_table(renamed(raw, kind, number), "table")
    assert (config.name, config.heading) == (name, heading)
    with pytest.raises(SkiptuneError, match=f"skip_tuning/{name} has no row 'nobody'"):
        config.row("nobody")


@pytest.mark.parametrize(("kind", "number", "name", "heading"), KINDS)
def test_files_index_and_contract(
    raw: dict[str, Any],
    result: TableResult,
    roles: Roles,
    tmp_path: Path,
    kind: str,
    number: Any,
    name: str,
    heading: str,
) -> None:
    config = parse_table(renamed(raw, kind, number), "table")
    own = dataclasses.replace(result, kind=kind, number=number)
    page = write_table(own, config, roles, tmp_path)
    assert page.name == f"{name}.md" and page.read_text().startswith(f"# {heading}: ")
    assert render_text(own, config, roles).startswith(f"{heading}: ")
    data = json.loads(page.with_suffix(".json").read_text())
    assert list(data) == ["paper", kind, "scale", "rows", "claims", "provenance"] and data[kind] == number
    assert TableResult.from_json(page.with_suffix(".json").read_text()) == own
    assert f"[{heading}: {config.title}](desk/skip_tuning/{name}.md)" in render_index(tmp_path)
    other = dataclasses.replace(own, kind="figure" if kind != "figure" else "table", number=number)
    with pytest.raises(SkiptuneError, match=f"does not belong to skip_tuning/{name}"):
        write_table(other, config, roles, tmp_path)


def test_index_lists_tables_then_figures_then_appendices(
    raw: dict[str, Any], result: TableResult, roles: Roles, tmp_path: Path
) -> None:
    for kind, number, _, _ in reversed(KINDS):
        config = parse_table(renamed(raw, kind, number), "table")
        write_table(dataclasses.replace(result, kind=kind, number=number), config, roles, tmp_path)
    index = (tmp_path / "README.md").read_text()
    places = [index.index(f"[{heading}: ") for *_, heading in KINDS]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"figure": 0}, "figure must be a positive whole number"),
        ({"figure": "4"}, "figure must be a positive whole number"),
        ({"appendix": 3}, "appendix must be a letter or a name"),
        ({"appendix": ""}, "appendix must be a letter or a name"),
        ({"figure": 4, "table": 2}, "unknown key"),
        ({}, "missing key 'table'"),
    ],
)
def test_contract_of_the_number(result: TableResult, change: dict[str, Any], words: str) -> None:
    data = json.loads(result.to_json())
    del data["table"]
    validate_table_json({**data, "figure": 4})
    with pytest.raises(SkiptuneError, match=words):
        validate_table_json({**data, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"figure": 4}, "table=x: give one of table, figure, appendix, supplement with its number"),
        ({"table": ...}, "table=x: give one of table, figure, appendix, supplement with its number"),
        ({"table": ..., "appendix": 3}, "table=x.appendix: expected text"),
        ({"table": ..., "figure": "4"}, "table=x.figure: expected a whole number"),
        ({"figures": {"draw": "lines"}}, "table=x.figures: expected a list"),
        ({"figures": [{"name": "rho"}]}, "figures[0]: missing key 'draw'"),
        ({"seeds": {"laptop": {}}}, "table=x: seeds: unknown key 'laptop'; known keys: desk, paper"),
        ({"seeds": {"desk": 5}}, "table=x: seeds.desk: expected a mapping"),
    ],
)
def test_a_wrong_head_is_one_clear_line(raw: dict[str, Any], change: dict[str, Any], words: str) -> None:
    wrong = {key: value for key, value in {**raw, **change}.items() if value is not ...}
    with pytest.raises(SkiptuneError) as caught:
        parse_table(wrong, "table=x")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_figures_keep_their_own_settings(raw: dict[str, Any]) -> None:
    figures = [{"draw": "lines", "x": "steps", "y": ["fid"]}, {"draw": "sample_pair", "name": "pair"}]
    lines, pair = parse_table({**raw, "figures": figures}, "table").figures
    assert (lines.draw, lines.name, lines.parameters) == ("lines", "lines", {"x": "steps", "y": ["fid"]})
    assert (pair.draw, pair.name, pair.parameters) == ("sample_pair", "pair", {})


def test_a_row_of_another_kind_needs_no_sampler(raw: dict[str, Any]) -> None:
    row = {key: EXPANDED[key] for key in ("arm", "role")} | {"id": "a", "label": "a"}
    measured = {**row, "measure": {"kind": "denoising", "sigma": 0.5}}
    (parsed,) = parse_table(with_rows(raw, measured), "table").rows
    assert parsed.settings() == {
        "arm": "swept", "role": "class_conditional_edm", "measure": "denoising", "sigma": 0.5,
        "intervention": "none",
    }  # fmt: skip
    for wrong, words in (
        (row, r"rows\[0\]: missing key 'sampler'"),
        ({**row, "measure": {"sigma": 0.5}}, r"rows\[0\].measure: missing key 'kind'"),
        ({**measured, "sampler": {"name": "heun", "sigma": 1}}, "measure and sampler both set 'sigma'"),
    ):
        with pytest.raises(SkiptuneError, match=words):
            parse_table(with_rows(raw, wrong), "table")


def several(result: TableResult, config: TableConfig) -> TableResult:
    """Measured rows with precision instead of FID, and a floor for each of two roles."""
    rows = []
    for row in (row for row in result.rows if row.values and row.label != FLOOR):
        value = Value(0.5, 0.4, 0.6, 6, row.values["fid"].seeds)
        rows.append(dataclasses.replace(row, values={"precision": value}))
    rows[0] = dataclasses.replace(rows[0], values={"precision": Value(0.9, 0.8, 0.95, 6, ((0, 249),))})
    floor = {"precision": Value(0.85, 0.84, 0.86, 20, ((0, 249),))}
    roles = ("class_conditional_edm", "unconditional_edm")
    floors = [floor_row(floor, ("f" * 20,), [role], "glyphs", alone=False) for role in roles]
    return dataclasses.replace(result, rows=(*rows, *floors))


def test_floors_of_two_roles_and_of_a_metric_that_is_better_high(
    raw: dict[str, Any], result: TableResult, roles: Roles
) -> None:
    columns = [column for column in raw["columns"] if column["key"] != "fid"]
    columns.append({"key": "precision", "title": "precision", "kind": "metric"})
    rows = [{**row, "paper": {}} for row in raw["rows"]]
    tuning = {**raw["tuning"], "metric": "precision"}
    config = parse_table({**raw, "columns": columns, "rows": rows, "tuning": tuning}, "table")
    both = several(result, config)
    validate_table_json(json.loads(both.to_json()))
    assert [row.label for row in both.floors] == [
        f"{FLOOR}, class_conditional_edm",
        f"{FLOOR}, unconditional_edm",
    ]
    text = render_markdown(both, config, roles)
    assert text.count("about the highest value to expect of a perfect model") == 2
    assert "between real images of `unconditional_edm` and the reference precision is 0.85" in text
    # Only the one row whose interval reaches the floor's, and only for its own role.
    assert text.count("with little room above: Heun, baseline\n") == text.count("with little room") == 1
