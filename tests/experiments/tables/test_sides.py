"""The rule for quantities on one side of a bound, on block values whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from experiments.tables.results import ClaimResult
from experiments.tables.rules import Evidence, judge
from skiptune.errors import SkiptuneError

NEAR = [0.58, 0.6, 0.62, 0.59, 0.61]
BOTH = [{"row": "a", "metric": "share", "above": 0.5}, {"row": "a", "metric": "step", "below": 0.5}]


def table(tests: Sequence[dict[str, Any]]) -> TableConfig:
    row = {"id": "a", "label": "A", "arm": "arm", "role": "role", "sampler": {"name": "ddim", "steps": 10}}
    columns = [{"key": key, "title": key, "kind": "metric"} for key in ("share", "step")]
    claim = {"id": "C", "statement": "S", "rule": "sides", "parameters": {"tests": {"desk": list(tests)}}}
    return parse_table(
        {"paper": "s2dm", "figure": 6, "title": "simulated", "dataset": "none", "columns": columns,
         "rows": [row], "claims": [claim]},
        "simulated",
    )  # fmt: skip


def verdict(
    share: Sequence[float], step: Sequence[float], tests: Sequence[dict[str, Any]] = BOTH
) -> ClaimResult:
    (claim,) = judge(Evidence(table(tests), "desk", {"a": {"share": share, "step": step}}))
    return claim


def shifted(by: float, spread: float = 1.0) -> list[float]:
    return [0.6 + by + spread * (value - 0.6) for value in NEAR]


@pytest.mark.parametrize(
    ("share", "step", "expected"),
    [
        (shifted(0), shifted(-0.2), "supported"),
        (shifted(-0.2), shifted(-0.2), "contradicted"),  # one of the two is enough
        (shifted(0), shifted(0), "contradicted"),
        (shifted(-0.09), shifted(-0.2), "inconclusive"),
        (shifted(0, spread=8), shifted(-0.2), "inconclusive"),
    ],
)
def test_every_quantity_on_its_side(share: list[float], step: list[float], expected: str) -> None:
    claim = verdict(share, step)
    assert claim.verdict == expected
    assert "share of A: " in claim.test and "(claimed above 0.5)" in claim.test
    assert "step of A: " in claim.test and "(claimed below 0.5)" in claim.test


def test_the_effect_is_what_speaks_most_against() -> None:
    claim = verdict(shifted(0), shifted(0.3))
    assert claim.effect == pytest.approx(0.9) and claim.low is not None and claim.low < 0.9
    assert "widened for 2 tests to 97.50%" in claim.test


def test_what_decides_against_is_wider_than_what_is_shown() -> None:
    """An interval that opposes the claim alone, and not when widened for the number of tests."""
    share = shifted(-0.121)
    alone = verdict(share, shifted(-0.2), BOTH[:1])
    assert alone.verdict == "contradicted"
    assert verdict(share, shifted(-0.2), BOTH * 20).verdict == "inconclusive"


def test_nothing_measured_one_block_or_no_tests_decide_nothing() -> None:
    assert verdict([], []).verdict == "not run"
    assert verdict([0.6], [0.4]).verdict == "inconclusive"
    assert verdict(NEAR, NEAR, []).verdict == "not run"


@pytest.mark.parametrize("test", [{}, {"above": 0.1, "below": 0.9}])
def test_one_side_is_to_be_named(test: dict[str, float]) -> None:
    with pytest.raises(SkiptuneError, match="claim C: tests: give one of above, below for 'a'"):
        verdict(NEAR, NEAR, [{"row": "a", "metric": "share", **test}])


def test_shares_have_intervals_that_do_not_vanish() -> None:
    """Of 8 cases that all hold 0.5 is excluded, 0.7 is not: Student's t would have no width at all."""
    config = table([{"row": "a", "metric": "share", "above": 0.7}])
    columns = tuple(dataclasses.replace(column, share=column.key == "share") for column in config.columns)
    of_shares = dataclasses.replace(config, columns=columns)

    def judged(bound: float, config: TableConfig) -> ClaimResult:
        tests = {"desk": [{"row": "a", "metric": "share", "above": bound}]}
        claim = dataclasses.replace(config.claims[0], parameters={"tests": tests})
        ones = {"a": {"share": [1.0] * 8}}
        (found,) = judge(Evidence(dataclasses.replace(config, claims=(claim,)), "desk", ones))
        return found

    assert judged(0.7, config).verdict == "supported"
    assert judged(0.7, of_shares).verdict == "inconclusive"
    found = judged(0.5, of_shares)
    assert found.verdict == "supported" and (found.effect, found.high) == (1, 1)
    assert found.low == pytest.approx(0.6756, abs=1e-4)
    assert "with 95% Wilson interval" in found.test and found.test.endswith(" Effect: share of A.")
