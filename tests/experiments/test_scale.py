"""Scales: roles, seeds, defaults of samplers, and what is said when something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.scale import Scale, parse_scale
from skiptune.errors import SkiptuneError

HEUN, NONE = {"name": "heun", "steps": 5}, {"name": "none"}


def test_desk_measures_with_what_is_in_the_repository(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    role = desk.role("class_conditional_edm")
    assert role.description == {"model": "edm_glyphs", "data": "glyphs", "features": "glyphs_cnn"}
    measurement = desk.measurement("class_conditional_edm", HEUN, NONE, desk.report, ("fid",))
    assert measurement.dataset == "glyphs" and measurement.reference_images == role.reference_images
    assert measurement.settings.resolved()["sampler"]["sigma_max"] == 80.0
    assert measurement.blocks.count >= 2  # else there would be no interval


def test_settings_of_a_row_win_over_the_defaults(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    merged = desk.sampler({"name": "unipc", "steps": 7, "order": 2})
    assert merged == {**desk.samplers["unipc"], "steps": 7, "order": 2}
    assert merged["sigma_max"] == 80.0


def test_rho_is_never_selected_on_the_seeds_it_is_reported_on(
    scales: dict[str, Scale], composed: Callable[..., dict[str, Any]]
) -> None:
    for scale in scales.values():
        assert not set(scale.select.bounds) & set(scale.report.bounds)
        assert scale.select.seeds.start >= scale.report.seeds.stop
    report = scales["desk"].report.seeds
    for first in (report.start, report.stop - 250):
        config = composed(f"scale.seeds.select.first={first}")
        with pytest.raises(SkiptuneError, match="seeds.select and seeds.report overlap"):
            parse_scale(config["scale"], config["samplers"], Path(), "cpu")
    config = composed(f"scale.seeds.select.first={report.stop}")
    assert parse_scale(config["scale"], config["samplers"], Path(), "cpu").select.seeds.start == report.stop


def test_unknown_names_are_refused(scales: dict[str, Scale]) -> None:
    with pytest.raises(SkiptuneError, match="nobody the role 'uvit'; roles: class_conditional_edm"):
        scales["desk"].role("uvit")
    with pytest.raises(
        SkiptuneError, match="no configuration for sampler 'dpm'; there are heun, euler, unipc"
    ):
        scales["desk"].sampler({"name": "dpm", "steps": 5})


def test_missing_files_of_the_paper_scale_are_named(scales: dict[str, Scale], tmp_path: Path) -> None:
    paper = scales["paper"]
    with pytest.raises(SkiptuneError, match=r"edm-imagenet-64x64-cond-adm.pkl .* get it from https://"):
        paper.measurement("class_conditional_edm", HEUN, NONE, paper.report, ("fid",))
    (tmp_path / "edm-imagenet-64x64-cond-adm.pkl").write_bytes(b"")
    with pytest.raises(SkiptuneError, match="inception_v3 .* is not available in this version"):
        replace(paper, checkpoints=tmp_path).measurement(
            "class_conditional_edm", HEUN, NONE, paper.report, ("fid",)
        )
