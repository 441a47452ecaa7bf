from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.tables.config import TableConfig
from experiments.tables.index import render_index
from experiments.tables.render import render_csv, render_markdown, render_text
from experiments.tables.results import TableResult
from experiments.tables.write import write_table
from skiptune.errors import SkiptuneError

Roles = Mapping[str, Mapping[str, str]]


def _line(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_puts_ours_beside_the_papers(result: TableResult, config: TableConfig, roles: Roles) -> None:
    text = render_markdown(result, config, roles)
    ours, base = result.rows[1].values["fid"], result.rows[0].values["fid"]
    span = f"{ours.value:.2f} [{ours.low:.2f}, {ours.high:.2f}]"
    ratio = f"{ours.value / base.value:.3f}"
    label = "Heun, Skip-Tuning (paper's ρ)"
    assert _line(text, label) == [label, "heun", "5", "9", "0.55", "1", span, ratio, "18.71", "0.533"]
    label = "Heun, Skip-Tuning (ρ selected here)"
    assert _line(text, label)[4] == "0.65" and _line(text, label)[-2:] == ["–", "–"]
    assert "not run: no weights" in _line(text, "UniPC, Skip-Tuning (ρ selected here)")


def test_every_table_line_has_the_same_cells(result: TableResult, config: TableConfig, roles: Roles) -> None:
    lines = [line for line in render_markdown(result, config, roles).splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(result.rows)
    assert {line.count("|") for line in lines} == {11}


def test_scales_cannot_be_confused(result: TableResult, config: TableConfig, roles: Roles) -> None:
    desk = render_markdown(result, config, roles)
    paper = render_markdown(dataclasses.replace(result, scale="paper"), config, roles)
    assert "FID here (desk scale)" in desk and "not comparable in absolute value" in desk
    assert "FID here (paper scale)" in paper and "not comparable" not in paper
    for words in ("tiny ADM", "glyphs 16x16", "glyph CNN", "ImageNet 64x64"):
        assert words in desk


def test_markdown_has_floor_verdict_and_provenance(
    result: TableResult, config: TableConfig, roles: Roles
) -> None:
    text = render_markdown(result, config, roles, [("rho.png", "FID against rho")])
    assert "between real images and the reference FID is 1.00 [" in text
    assert "6 seed blocks of 500 images" in text
    of_paths = dataclasses.replace(config, block={result.scale: "50 paths"})
    assert "6 seed blocks of 50 paths each" in render_markdown(result, of_paths, roles)
    assert f"**ST-C1: {result.claims[0].verdict}.** {config.claims[0].statement}" in text
    assert result.claims[0].test in text
    assert result.provenance.commit in text and "12 s" in text
    assert "![FID against rho](rho.png)" in text


def test_terminal_table_is_aligned(result: TableResult, config: TableConfig, roles: Roles) -> None:
    lines = render_text(result, config, roles).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("row "))
    end = lines[start].index("NFE") + len("NFE")
    column = {line[:end].split()[-1] for line in lines[start + 2 : start + 2 + len(result.rows)]}
    assert column == {"9", "–"}
    assert "**" not in "".join(lines)


def test_csv_round_trip(result: TableResult) -> None:
    records = list(csv.DictReader(io.StringIO(render_csv(result))))
    assert [record["label"] for record in records] == [row.label for row in result.rows]
    for record, row in zip(records, result.rows, strict=True):
        assert record["status"] == row.status and record["reason"] == row.reason
        assert tuple(record["record"].split()) == row.record
        assert [float(v) for v in (record["fid_paper"],) if v] == list(row.paper.values())
        assert record["rho_bottom"] == str(row.settings.get("rho_bottom", ""))
        for value in row.values.values():
            numbers = [float(record[f"fid{part}"]) for part in ("", "_low", "_high", "_n")]
            assert numbers == [value.value, value.low, value.high, value.n]
            blocks = [tuple(map(int, block.split("-"))) for block in record["fid_seeds"].split()]
            assert tuple(blocks) == value.seeds


def test_write_table_makes_all_files_and_the_index(
    result: TableResult, config: TableConfig, roles: Roles, tmp_path: Path
) -> None:
    page = write_table(result, config, roles, tmp_path)
    folder = tmp_path / "desk" / "skip_tuning"
    assert page == folder / "table_02.md"
    assert sorted(p.name for p in folder.iterdir()) == ["table_02.csv", "table_02.json", "table_02.md"]
    assert TableResult.from_json((folder / "table_02.json").read_text()) == result
    index = (tmp_path / "README.md").read_text()
    assert "[Table 2: Few-step sampling with and without Skip-Tuning](desk/skip_tuning/table_02.md)" in index
    assert f"ST-C1 {result.claims[0].verdict} | 6 of 7 | 2026-01-02" in index


def test_index_depends_on_content_only(
    result: TableResult, config: TableConfig, roles: Roles, tmp_path: Path
) -> None:
    other = dataclasses.replace(result, scale="paper")
    for folder, order in (("a", (result, other)), ("b", (other, result))):
        for table in order:
            write_table(table, config, roles, tmp_path / folder)
    assert render_index(tmp_path / "a") == render_index(tmp_path / "b")
    text = (tmp_path / "a" / "README.md").read_text()
    assert text.index("desk/skip_tuning/table_02.md") < text.index("paper/skip_tuning/table_02.md")


def test_nothing_is_written_for_a_wrong_result(
    result: TableResult, config: TableConfig, roles: Roles, tmp_path: Path
) -> None:
    wrong = dataclasses.replace(result, scale="laptop")
    with pytest.raises(SkiptuneError, match="scale must be"):
        write_table(wrong, config, roles, tmp_path)
    with pytest.raises(SkiptuneError, match="does not belong"):
        write_table(dataclasses.replace(result, number=3), config, roles, tmp_path)
    with pytest.raises(SkiptuneError, match="figure .* is missing"):
        write_table(result, config, roles, tmp_path, [("rho.png", "a figure")])
    assert not list(tmp_path.iterdir())


def test_a_damaged_table_is_named_in_the_index(
    result: TableResult, config: TableConfig, roles: Roles, tmp_path: Path
) -> None:
    write_table(result, config, roles, tmp_path)
    (tmp_path / "desk/skip_tuning/table_02.json").write_text("{}")
    with pytest.raises(SkiptuneError, match="table_02.json: missing key"):
        render_index(tmp_path)
