"""Values and ratios within ends, and counts of diverged trainings, on made numbers whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest
from test_rules_of_claims import around, table, verdict

from experiments.tables.results import ClaimResult
from skiptune.errors import SkiptuneError

ROWS = [{"id": name} for name in ("a", "b", "c")]


def judged(tests: list[dict[str, Any]], values: dict[str, dict[str, list[float]]]) -> ClaimResult:
    return verdict(table(ROWS, "within", ("seconds", "count"), tests={"desk": tests}), values)


def double(noise: float, ratio: float = 1.95) -> dict[str, dict[str, list[float]]]:
    base = around(10, 0.3, 1)  # the machine's load, which both share
    pairs = zip(base, around(ratio, noise, 2), strict=True)
    return {"a": {"seconds": base, "count": [0.0] * 6}, "b": {"seconds": [x * r for x, r in pairs]}}


TWICE = {"row": "b", "against": "a", "metric": "seconds", "low": 1.9, "high": 2.05}


@pytest.mark.parametrize(
    ("ratio", "noise", "expected"),
    [
        (1.97, 0.005, "supported"),  # although the load varies by a third
        (1.6, 0.005, "contradicted"),
        (2.4, 0.005, "contradicted"),
        (1.97, 0.2, "inconclusive"),
    ],
)
def test_ratio_of_paired_blocks_between_its_ends(ratio: float, noise: float, expected: str) -> None:
    found = judged([TWICE], double(noise, ratio))
    assert found.verdict == expected
    assert found.effect == pytest.approx(ratio, rel=3 * noise) and "seconds of b over a" in found.test


def test_ends_are_inside_and_counts_have_no_spread() -> None:
    none = {"row": "a", "metric": "count", "low": 0, "high": 0}
    assert judged([TWICE, none], double(0.005)).verdict == "supported"
    one = double(0.005)
    one["a"]["count"] = [1.0] * 6
    found = judged([TWICE, none], one)
    assert (found.verdict, found.effect) == ("contradicted", 1.0)  # the one furthest out is told
    below = {**TWICE, "low": 1.95, "high": 1.95}
    exact = {"a": {"seconds": [1.0, 2.0]}, "b": {"seconds": [1.95, 3.9]}}
    assert judged([{**below, "low": 1.94, "high": 1.96}], exact).verdict == "supported"


def test_what_is_missing_decides_nothing() -> None:
    assert judged([TWICE], {"a": {"seconds": [1.0, 2.0]}}).verdict == "not run"
    assert judged([], double(0.01)).verdict == "not run"
    single = {"a": {"seconds": [1.0]}, "b": {"seconds": [2.0]}}
    assert judged([TWICE], single).verdict == "inconclusive"
    with pytest.raises(SkiptuneError, match="missing key 'high'"):
        judged([{key: TWICE[key] for key in TWICE if key != "high"}], double(0.01))


COUNTS = ("trainings", "half_precision", "diverged")


def trained(runs: int, diverged: int, half: int | None = None) -> dict[str, list[float]]:
    counts = (runs, runs if half is None else half, diverged)
    return {name: [float(count)] * 2 for name, count in zip(COUNTS, counts, strict=True)}


@pytest.mark.parametrize(
    ("plain", "skip", "more", "expected", "words"),
    [
        (trained(3, 0), trained(3, 0), trained(3, 0), "inconclusive", "Not supported: no training diverged"),
        (trained(3, 3), trained(3, 0), trained(3, 0), "supported", "3 of 3 trainings of a diverged, 0 of 6"),
        (trained(3, 1), trained(3, 0), trained(3, 0), "inconclusive", "p = 0.333"),
        (trained(3, 3), trained(3, 1), trained(9, 0), "inconclusive", "1 of 12"),
        (trained(3, 0), trained(3, 3), trained(3, 3), "contradicted", "6 of 6 of b, c"),
        (trained(3, 0, half=2), trained(3, 0), trained(3, 0), "not run", "Not all trainings were in mixed"),
        (trained(2, 2), trained(3, 0), trained(3, 0), "inconclusive", "Fewer than 3 trainings"),
    ],
)  # fmt: skip
def test_diverged_trainings(
    plain: dict[str, list[float]], skip: dict[str, list[float]], more: dict[str, list[float]],
    expected: str, words: str,
) -> None:  # fmt: skip
    rows = {"rows": {"desk": ["a"]}, "others": {"desk": ["b", "c"]}, "least": 3}
    found = verdict(table(ROWS, "diverges_alone", COUNTS, **rows), {"a": plain, "b": skip, "c": more})
    assert found.verdict == expected and words in found.test


def test_the_room_that_few_sound_trainings_leave() -> None:
    rows = {"rows": {"desk": ["a"]}, "others": {"desk": ["b"]}, "least": 3}
    config = table(ROWS, "diverges_alone", COUNTS, **rows)
    found = verdict(config, {"a": trained(3, 0), "b": trained(3, 0)})
    assert "up to 63%" in found.test  # 1 - 0.05^(1/3)
    assert verdict(config, {"a": trained(3, 0)}).verdict == "not run"
