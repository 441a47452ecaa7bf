"""The head of a table names what its rows use, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.roles import role_descriptions
from experiments.scale import Scale
from experiments.tables.read import parse_table

TABLES = Path(__file__).resolve().parents[2] / "configs/table/importance_probe"
SCORED = {"data": "prompted_glyphs", "features": "glyphs_cnn", "scorer": "glyphs_scorer"}


@pytest.mark.parametrize(
    ("table", "role", "expected"),
    [
        ("supplement_planted", "sd_untrained", {"model": "sd_untrained"}),
        ("02", "sd_turbo", {"model": "sd_turbo_glyphs", "data": "prompted_glyphs"}),
        ("03", "sd_turbo", {"model": "sd_turbo_glyphs", **SCORED}),
    ],
)
def test_roles_are_described_by_what_rows_use(
    table: str, role: str, expected: dict[str, str], scales: dict[str, Scale]
) -> None:
    text = (TABLES / f"{table}.yaml").read_text(encoding="utf-8")
    rows = parse_table(yaml.safe_load(text), table).rows_at("desk")
    assert role_descriptions(rows, scales["desk"])[role] == expected
