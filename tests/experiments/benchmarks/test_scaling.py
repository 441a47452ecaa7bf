"""The simulated schedule of a job on many workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.benchmarks.scaling import predicted, render_scaling, schedule, table_chunks
from experiments.needs import needs_of
from experiments.scale import Scale
from experiments.tables.read import parse_table
from skiptune.errors import SkiptuneError


def test_equal_chunks_are_divided_evenly_and_a_rest_idles() -> None:
    assert (
        schedule([2.0] * 8, 4) == (even := schedule([2.0] * 8, 4))
        and even.seconds == 4.0
        and even.idle == 0.0
    )
    rest = schedule([2.0] * 9, 4)
    assert rest.seconds == 6.0 and rest.idle == pytest.approx(1 - 18 / 24)


def test_a_worker_that_is_done_takes_from_the_others() -> None:
    # Shares alone would take 5 s: the first worker has 3 + 1 + 1.
    found = schedule([3.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2)
    assert found.seconds == 4.0 and found.idle == 0.0


def test_what_comes_afterwards_waits_for_all_chunks() -> None:
    found = schedule([2.0, 1.0], 2, [1.0, 1.0, 1.0])
    assert found.seconds == 4.0 and found.idle == pytest.approx(1 - 6 / 8)
    with pytest.raises(SkiptuneError, match="use 1 or more"):
        schedule([1.0], 0)


def test_table_4_at_paper_scale(composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]) -> None:
    config = parse_table(composed("table=skip_tuning/04")["table"], "table")
    needs = needs_of(config, scales["paper"])
    chunks = table_chunks(config, scales["paper"], 60)
    assert len(chunks) == needs.images // 250
    assert sum(chunks) == pytest.approx(3600 * needs.gpu_hours)
    report = predicted(config, scales["paper"], (1, 64), 60, 95.0)
    one, many = report["workers"]["1"], report["workers"]["64"]
    assert one["idle"] == 0 and one["seconds"] == pytest.approx(sum(chunks) + 95 * len(needs.rows))
    assert 0 < many["idle"] < 1 and sum(chunks) / 64 + 95 <= many["seconds"] < one["seconds"] / 30
    measured = {
        "images_per_second": {"one": 1.0, "two": 1.9},
        "speedup": {"median": 1.9, "low": 1.8, "high": 2.0},
    }
    where = {"device": "CPU", "packages": {"torch": "2"}, "commit": "0" * 40}
    text = render_scaling(
        {**measured, "aim": 1.8, "chunks": 8, "repeats": 3, "provenance": where, "predicted": report}
    )
    assert "aim 1.8: met" in text and "| 64 |" in text
