"""A table that is rendered again keeps saying when and by what it was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.tables.config import TableConfig
from experiments.tables.results import TableResult
from experiments.tables.write import keep_provenance, write_table


def test_rendering_again_keeps_the_provenance_of_equal_rows(
    result: TableResult, config: TableConfig, roles: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    write_table(result, config, roles, tmp_path)
    later = replace(result, provenance=replace(result.provenance, commit="f" * 40, seconds=0.0))
    assert keep_provenance(later, tmp_path).provenance == result.provenance
    other = replace(later, rows=result.rows[1:])
    assert keep_provenance(other, tmp_path).provenance == later.provenance
