"""The pages of the committed results: complete, self-contained, with the origin of every number."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.report.build import island
from experiments.report.cells import grids
from experiments.report.entries import Entry, pictures
from experiments.report.overview import chapters
from experiments.tables.index import natural
from skiptune.errors import SkiptuneError

ADDRESS = re.compile(r"""(?:src|href|action)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import""")


def origins(page: str) -> dict[str, Any]:
    """What the page's script knows."""
    text = re.search(r'id="origins">(.*?)</script>', page, re.S)
    assert text is not None
    return json.loads(text[1])


def test_every_table_is_there_with_its_values_and_verdicts(report: Any) -> None:
    index = (report.folder / "index.html").read_text()
    assert len(report.made) == len(list((Path(__file__).parents[3] / "results/desk").glob("*/*.json"))) > 30
    for entry in report.made:
        assert f'href="{entry.page}"' in index
        page, stored = report.page(entry), entry.result
        rows = origins(page)["rows"]
        assert [row["label"] for row in rows] == [row.label for row in stored.rows]
        for row, told in zip(stored.rows, rows, strict=True):
            assert [record["id"] for record in told["records"]] == list(row.record)
            assert {key: value["value"] for key, value in told["values"].items()} == {
                key: value.value for key, value in row.values.items()
            }
        for claim in stored.claims:
            assert escape(claim.test, quote=False).replace("'", "&#39;").replace('"', "&#34;") in page
            assert f'class="answer {claim.verdict}"' in page


def test_nothing_is_loaded_from_elsewhere(report: Any) -> None:
    for path in [*report.folder.glob("*.html"), *report.folder.glob("*.css"), *report.folder.glob("*.js")]:
        for match in ADDRESS.finditer(path.read_text()):
            target = (match[1] or match[2] or "").partition("#")[0].strip("\"'")
            assert target in ("", "data:,") or (path.parent / target).is_file(), (path.name, match[0])


def test_a_record_of_the_store_tells_its_own_machine(report: Any) -> None:
    (entry,) = (entry for entry in report.made if entry.id == "skip_tuning/02")
    told = origins(report.page(entry))
    first, second = told["rows"][0]["records"][0], told["rows"][1]["records"][0]
    assert first["id"] == report.record and first["images_per_second"] == 12.5
    assert told["environments"][first["environment"]]["commit"] == "c0ffee"
    assert "environment" not in second  # told by its table
    assert told["environments"][0]["commit"] == entry.result.provenance.commit
    assert told["baselines"]["Heun, Skip-Tuning (paper's ρ)"] == "Heun, baseline"


def test_cells_are_value_and_interval(report: Any) -> None:
    (entry,) = (entry for entry in report.made if entry.id == "skip_tuning/02")
    (grid,) = grids(entry)
    base = grid.rows[0]
    cells = {cell.heading.kind: cell for cell in base.cells}
    assert base.kind == "baseline" and grid.rows[-1].kind == "floor"
    assert cells["here"].interval.startswith("[") and cells["here"].asks
    assert not cells["here ratio"].asks and not cells["setting"].asks


def test_unmeasured_tables_are_named_and_not_linked(report: Any) -> None:
    entry = report.made[0]
    empty = [Entry(entry.id, entry.scale, entry.config)]
    (chapter,) = chapters(empty)
    assert chapter.tally == [("not run", len(entry.config.claims))]
    assert chapters([*empty, Entry(entry.id, "paper", entry.config)]) == [chapter]


def test_text_cannot_end_the_script_element() -> None:
    value = {"label": "</script><b>"}
    assert "<" not in island(value) and json.loads(island(value)) == value


def test_claims_are_in_natural_order() -> None:
    assert sorted(["ST-C10", "ST-C2", "ST-C1"], key=natural) == ["ST-C1", "ST-C2", "ST-C10"]


def test_figures_come_with_caption_and_size(tmp_path: Path) -> None:
    page = tmp_path / "desk" / "s2dm" / "table_01.md"
    page.parent.mkdir(parents=True)
    page.write_text("text\n\n![FID [95%] (ours)](table_01_a.png)\n")
    with pytest.raises(SkiptuneError, match="shows table_01_a.png, which is missing"):
        pictures(page)
    Image.new("RGB", (4, 3)).save(page.with_name("table_01_a.png"))
    (found,) = pictures(page)
    assert (found.caption, found.size) == ("FID [95%] (ours)", (4, 3))
    assert found.name == "figures/desk-s2dm-table_01_a.png"
