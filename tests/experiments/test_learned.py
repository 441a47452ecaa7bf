"""From the name of learned coefficients to their values, and what a row needs for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.learned import learned_coefficients, with_coefficients
from experiments.needs import needs_of
from experiments.scale import Scale
from experiments.tables.read import parse_table
from skiptune.checkpoints.desk import load_coefficients
from skiptune.errors import SkiptuneError

ROLE = "class_conditional_edm"
FREE = {"name": "skip_coefficients", "learned": "free"}


def test_values_of_the_shipped_file(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    shipped = load_coefficients("rho_free_glyphs")
    found = with_coefficients(FREE, desk.role(ROLE), desk.checkpoints)
    assert found == {"name": "skip_coefficients", "rho": list(shipped.rho)}
    run = desk.sampling(ROLE, {"name": "heun", "steps": 5}, found).resolved()
    assert run["intervention"] == found  # the values name the run, wherever they come from
    assert learned_coefficients("free", desk.role(ROLE), desk.checkpoints) == shipped
    assert with_coefficients({"name": "none"}, desk.role(ROLE), desk.checkpoints) == {"name": "none"}


def test_coefficients_that_cannot_be_had(scales: dict[str, Scale], tmp_path: Path) -> None:
    desk, paper = scales["desk"], scales["paper"]
    role = desk.role(ROLE)
    with pytest.raises(SkiptuneError, match="no learned coefficients of edm_glyphs is called 'tanh'; there"):
        with_coefficients({**FREE, "learned": "tanh"}, role, tmp_path)
    other = dataclasses.replace(role, model=desk.role("consistency_distilled").model)
    with pytest.raises(
        SkiptuneError, match="rho_free_glyphs was learned on other weights than those of cd_gl"
    ):
        with_coefficients(FREE, other, tmp_path)
    with pytest.raises(
        SkiptuneError, match=r"missing; learn it with: .*training=rho_free_imagenet64 export="
    ):
        with_coefficients(FREE, paper.role(ROLE), tmp_path)


def test_needs_name_what_is_to_be_trained_first(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]
) -> None:
    table = parse_table(composed("table=skip_tuning/11")["table"], "table")
    files = needs_of(table, scales["paper"]).files
    for name in ("rho_free_imagenet64", "rho_sigmoid_imagenet64"):
        need = files[f"{name}.safetensors"]
        assert need.made_here and f"training={name} export=checkpoints" in need.origin
    assert not needs_of(table, scales["desk"]).files
    table = parse_table(composed("table=skip_tuning/12")["table"], "table")
    files = needs_of(table, scales["paper"]).files
    for images in (4, 10, 30, 60):
        need = files[f"edm_imagenet64_hybrid_{images}m.safetensors"]
        assert need.made_here and "train it with" in need.origin
    assert [need.made_here for need in files.values()].count(True) == 4
