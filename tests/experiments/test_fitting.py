"""``scale.micro_batch=auto``: every sampled role of a table gets the batch that fits, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.fitting import with_fitting_batches
from experiments.network_run import network_arguments
from experiments.scale import Scale
from experiments.scale_config import parse_micro_batch
from experiments.tables.read import parse_table
from skiptune.errors import SkiptuneError
from skiptune.runtime.store import RunStore


def test_roles_get_what_fits_and_keep_it(
    scales: dict[str, Scale], composed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    row = parse_table(composed()["table"], "table").rows[0]
    row = replace(row, sampler={"name": "heun", "steps": 2})
    auto, store = replace(scales["desk"], micro_batch=None), RunStore(tmp_path)
    with pytest.raises(SkiptuneError, match=f"scale.roles.{row.role}.micro_batch"):
        auto.batch_of(row.role)
    unknown = with_fitting_batches(auto, [row], store, computes=False)
    assert unknown.roles == auto.roles
    fitted = with_fitting_batches(auto, [row], store)
    assert fitted.batch_of(row.role) == 250  # a chunk: this machine has room for it
    assert fitted.sampling(row.role, row.sampler, {"name": "none"}).resolved()["micro_batch"] == 250
    (record,) = tmp_path.rglob("record.json")
    record.write_text(record.read_text().replace("250", "50"))
    assert with_fitting_batches(auto, [row], store).batch_of(row.role) == 50  # not tried again
    assert with_fitting_batches(auto, [row], store, computes=False).batch_of(row.role) == 50


def test_rows_without_samples_need_a_number_and_roles_never_take_more(
    scales: dict[str, Scale], composed: Callable[..., dict[str, Any]]
) -> None:
    desk = scales["desk"]
    row = parse_table(composed("table=skip_tuning/figure_02")["table"], "table").rows[0]
    with pytest.raises(SkiptuneError, match=f"scale.roles.{row.role}.micro_batch"):
        network_arguments(replace(desk, micro_batch=None), row, {"name": "none"})
    role = replace(desk.role(row.role), micro_batch=16)
    small = replace(desk, roles={row.role: role})
    assert small.batch_of(row.role) == 16 and replace(small, micro_batch=8).batch_of(row.role) == 8
    for wrong in (0, "many", True):
        with pytest.raises(SkiptuneError, match="give a number of images from 1 on, or auto"):
            parse_micro_batch(wrong)


def test_a_number_stays(scales: dict[str, Scale], tmp_path: Path) -> None:
    assert with_fitting_batches(scales["desk"], [], RunStore(tmp_path)) is scales["desk"]
