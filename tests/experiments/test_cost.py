"""The dry run: network evaluations counted, images and GPU-hours added up, files named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.cost import dry_run
from experiments.needs import SUSTAINED_TFLOPS
from experiments.registry import kind_of
from experiments.scale import Scale
from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table


@pytest.fixture
def table(composed: Callable[..., dict[str, Any]]) -> TableConfig:
    return parse_table(composed()["table"], "table")


@pytest.mark.parametrize(
    ("sampler", "nfe"),
    [
        ({"name": "heun", "steps": 5}, 9),
        ({"name": "heun", "steps": 40}, 79),
        ({"name": "unipc", "steps": 9}, 9),
        ({"name": "euler", "steps": 9}, 9),
        ({"name": "euler", "steps": 4, "S_churn": 10.0}, 4),
    ],
)
def test_network_evaluations(
    scales: dict[str, Scale], table: TableConfig, sampler: dict[str, Any], nfe: int
) -> None:
    row = replace(table.rows[0], sampler=sampler)
    assert kind_of(row).evaluations(scales["desk"], row) == nfe


@pytest.mark.parametrize(
    ("role", "ranking", "nfe"),
    [
        # Sampling, and 8 noises on 32 images for the plain network and every block, once for 250 images.
        ("sd_turbo", "eq4", 2 + 2 * 8 * (1 + 7) * 32 / 250),
        ("sdxl_turbo", "fitted", 2 + 2 * 8 * (1 + 5) * 32 / 250),
        # Sampling, and the teacher and every block once for the two images of a prompt.
        ("sd_turbo", "ablation", 2 + 2 * (1 + 7) / 2),
    ],
)
def test_finding_weights_is_counted(
    scales: dict[str, Scale], table: TableConfig, role: str, ranking: str, nfe: float
) -> None:
    row = replace(
        table.rows[0],
        role=role,
        measure={"kind": "noise_error", "ranking": ranking},
        sampler={"name": "ddim", "steps": 2, "spacing": "trailing", "end": "first"},
        intervention={"name": "importance" if ranking == "ablation" else "found_weights"},
    )
    assert kind_of(row).evaluations(scales["desk"], row) == pytest.approx(nfe)


def test_desk_needs_no_download(table: TableConfig, scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    text = dry_run(table, desk)
    assert table.tuning is not None
    # The untouched network is searched too.
    searched = sum(len(grid) + 1 for grid in table.tuning.grids.values()) * len(desk.select.seeds)
    total = len(table.rows_at("desk")) * len(desk.report.seeds) + searched
    assert f"images in total: {total}" in text
    assert "none to download" in text and "GPU" not in text and "http" not in text


def test_paper_scale_costs_what_its_operations_cost(
    table: TableConfig, scales: dict[str, Scale], tmp_path: Path
) -> None:
    text = dry_run(table, scales["paper"])
    # 4 rows x 50,000 images x 9 evaluations x 219.3 GFLOP
    hours = 4 * 50_000 * 9 * 219.3e9 / (SUSTAINED_TFLOPS * 1e12) / 3600
    assert f"estimate: {hours:.1f} GPU-hours at 60 TFLOP/s" in text and "not measured" in text
    assert "images in total: 200000" in text
    assert text.count("(missing): https://") == 3
    (tmp_path / "imagenet-64x64.npz").write_bytes(b"")
    assert "imagenet-64x64.npz (present)" in dry_run(table, replace(scales["paper"], checkpoints=tmp_path))
