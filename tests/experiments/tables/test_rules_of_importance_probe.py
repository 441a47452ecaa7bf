"""The rules behind the claims of Importance Probe, on simulated values per prompt whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from experiments.tables.results import ClaimResult
from experiments.tables.rules import Evidence, judge
from experiments.tables.rules.closer_at_gain import distance_at
from experiments.tables.rules.least_harm import below_medians, pareto

PROMPTS = 40
Values = Mapping[str, Mapping[str, Sequence[float]]]


def table(rows: Mapping[str, str], rule: str, **parameters: Any) -> TableConfig:
    """Rows id -> arm, all with the baseline `base`, and one claim."""
    listed = [
        {
            "id": id,
            "label": id,
            "arm": arm,
            "role": "role",
            "sampler": {"name": "ddim", "steps": 2},
            "baseline": None if id == "base" else "base",
        }
        for id, arm in rows.items()
    ]
    columns = [{"key": key, "title": key, "kind": "metric"} for key in ("score", "distance", "fid")]
    claim = {"id": "C", "statement": "S", "rule": rule, "parameters": parameters}
    head = {"paper": "importance_probe", "figure": 99, "title": "simulated", "dataset": "none"}
    return parse_table({**head, "columns": columns, "rows": listed, "claims": [claim]}, "simulated")


def verdict(config: TableConfig, values: Values) -> ClaimResult:
    (claim,) = judge(Evidence(config, "desk", values, units=dict.fromkeys(values, "prompts")))
    return claim


def scores(shift: float, noise: float = 0.01, seed: int = 0) -> list[float]:
    """Of prompts that differ much from each other and alike in all rows."""
    prompts = np.random.default_rng(99).standard_normal(PROMPTS)
    own = np.random.default_rng(seed).standard_normal(PROMPTS)
    return list(0.3 + 0.1 * prompts + shift + noise * (own - own.mean()))


@pytest.mark.parametrize(
    ("form", "sign", "shifts", "expected"),
    [
        ("all", "+", (0.02, 0.03, 0.05), "supported"),
        ("all", "+", (0.02, 0.03, -0.05), "contradicted"),
        ("all", "+", (0.02, 0.03, 0.001), "inconclusive"),
        ("some", "+", (-0.02, 0.0, 0.02), "supported"),
        ("some", "+", (-0.02, -0.03, -0.02), "contradicted"),
        ("some", "+", (-0.02, 0.001, -0.02), "inconclusive"),
        ("some", "-", (0.02, 0.03, -0.02), "supported"),
        ("most", "-", (-0.02, -0.03, 0.02), "supported"),
        ("most", "-", (0.02, 0.03, -0.02), "contradicted"),
        ("most", "-", (0.0, 0.02, -0.02), "inconclusive"),
    ],
)
def test_gains(form: str, sign: str, shifts: tuple[float, ...], expected: str) -> None:
    rows = {"base": "base", **{f"r{i}": "arm" for i in range(len(shifts))}}
    test = {"arms": ["arm"], "metrics": ["score"], "sign": sign, "form": form}
    config = table(rows, "gains", tests={"desk": [test]})
    values = {"base": {"score": scores(0)}}
    values |= {f"r{i}": {"score": scores(shift, seed=i + 1)} for i, shift in enumerate(shifts)}
    found = verdict(config, values)
    assert found.verdict == expected
    decides = max if (form == "some") == (sign == "+") else min
    assert found.effect == pytest.approx(decides(shifts))  # the pairs leave out what prompts share
    assert "over prompts" in found.test and f"{len(shifts)} cells" in found.test


def test_every_part_of_a_claim_counts() -> None:
    """Worse than another row, and still above the baseline."""
    rows = {"base": "base", "normal": "normal", "inverted": "inverted"}
    common = {"arms": ["inverted"], "metrics": ["score"]}
    tests = [
        {**common, "sign": "-", "form": "most", "against": "normal"},
        {**common, "sign": "+", "form": "all"},
    ]
    config = table(rows, "gains", tests={"desk": tests})
    values = {"base": {"score": scores(0)}, "normal": {"score": scores(0.05, seed=1)}}
    assert verdict(config, {**values, "inverted": {"score": scores(0.02, seed=2)}}).verdict == "supported"
    assert verdict(config, {**values, "inverted": {"score": scores(-0.02, seed=2)}}).verdict == "contradicted"
    assert verdict(config, values).verdict == "not run"


def test_distance_at_a_gain_is_the_smallest_on_the_line() -> None:
    line = [(0.0, 0.0), (2.0, 4.0), (0.0, 10.0)]
    assert distance_at(line, 1.0) == 2 and distance_at(line, 2.0) == 4 and distance_at(line, 3.0) is None


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [
        ((0.02, 1.0), (0.04, 6.0), "supported"),  # the line has distance 3 at a gain of 0.02
        ((0.04, 2.0), (0.02, 3.0), "supported"),  # here the near one has 1 at the far one's gain
        ((0.02, 5.0), (0.04, 6.0), "contradicted"),
        ((0.02, 1.0), (-0.04, 6.0), "inconclusive"),  # the other never gains
        ((-0.02, 1.0), (0.04, 6.0), "inconclusive"),
    ],
)
def test_closer_at_gain(near: tuple[float, float], far: tuple[float, float], expected: str) -> None:
    parameters = {"gain": "score", "distance": "distance", "near": "near", "far": "far"}
    config = table({"base": "base", "n": "near", "f": "far"}, "closer_at_gain", **parameters)
    values = {
        id: {"score": scores(gain, seed=i), "distance": list(np.array(scores(0, seed=9)) * 0.1 + distance)}
        for i, (id, (gain, distance)) in enumerate({"n": near, "f": far}.items())
    }
    found = verdict(config, {"base": {"score": scores(0, noise=0)}, **values})
    assert found.verdict == expected
    if expected == "supported":
        assert found.effect == pytest.approx(2, abs=0.05)


def test_least_harm() -> None:
    points = np.array([[1, 1], [2, 2], [1, 3], [3, 0.5], [4, 4]], dtype=float)
    assert below_medians(points).tolist() == [True, True, False, False, False]
    assert pareto(points).tolist() == [True, False, False, True, False]
    rows = {f"r{i}": "ranked" if i < 2 else "other" for i in range(5)}
    parameters = {"metrics": ["fid", "distance"], "arm": "ranked", "among": ["ranked", "other"]}
    config = table({"base": "base", **rows}, "least_harm", **parameters)
    noise = np.random.default_rng(0).normal(0, 0.01, (5, 2, 5))

    def measured(order: Sequence[int]) -> Values:
        data = points[list(order)][:, :, None] + noise
        return {f"r{i}": {"fid": list(own[0]), "distance": list(own[1])} for i, own in enumerate(data)}

    assert verdict(config, measured((0, 1, 2, 3, 4))).verdict == "supported"
    assert verdict(config, measured((0, 4, 1, 2, 3))).verdict == "contradicted"
    assert verdict(config, {}).verdict == "not run"


def test_a_strategy_in_two_arms_counts_once() -> None:
    """With its doubles among the others the two worst of the arm would lie above the median."""
    rows = {"a": "ranked", "b": "ranked", "c": "ranked", "x": "other", "y": "other", "z": "other"}
    parameters = {"metrics": ["fid", "distance"], "arm": "ranked", "among": ["ranked", "other"]}
    config = table({"base": "base", **rows}, "least_harm", **parameters)
    levels = {"a": 1, "b": 2, "c": 3, "x": 1, "y": 4, "z": 5}
    noise = np.random.default_rng(0).normal(0, 0.01, 5)
    values = {id: {key: list(level + noise) for key in ("fid", "distance")} for id, level in levels.items()}
    blocks = {id: {"blocks": str(level)} for id, level in levels.items()}
    apart = {**blocks, "x": {"blocks": "another"}}
    (once,) = judge(Evidence(config, "desk", values, interventions=blocks))
    (twice,) = judge(Evidence(config, "desk", values, interventions=apart))
    assert (once.verdict, twice.verdict) == ("supported", "contradicted")
    assert "3 of 3 strategies of ranked lie on or below the median of 5" in once.test
    assert "Pareto-optimal of ranked: a (1 in all). 6 rows" in once.test


@pytest.mark.parametrize(("untouched", "expected"), [(0.0, "supported"), (0.02, "inconclusive")])
def test_a_gain_that_is_there_without_the_weight_is_left_open(untouched: float, expected: str) -> None:
    """Fewer steps beat more of them with a weight; the control asks whether they do so without."""
    rows = {"base": "base", "w": "weighted", "plain": "plain"}
    common = {"metrics": ["score"], "sign": "+"}
    tests = [
        {**common, "arms": ["weighted"], "form": "some"},
        {**common, "arms": ["plain"], "form": "none"},
    ]
    config = table(rows, "gains", tests={"desk": tests})
    values = {
        id: {"score": scores(gain, seed=i)} for i, (id, gain) in enumerate({"base": 0, "w": 0.05}.items())
    }
    found = verdict(config, {**values, "plain": {"score": scores(untouched, seed=7)}})
    assert found.verdict == expected
    if expected == "supported":
        assert found.effect == pytest.approx(0.05) and found.test.endswith("Effect: score of w less base.")
    else:
        assert found.effect == pytest.approx(0.02) and found.test.endswith(
            "Effect: score of plain less base."
        )


@pytest.mark.parametrize(
    ("combined", "alone", "expected"),
    [
        ((0.01, 0.06), (0.02, 0.03), "supported"),
        ((0.01, 0.02), (0.02, 0.05), "contradicted"),
        ((0.01, 0.0505), (0.02, 0.05), "inconclusive"),  # above one of them, not above the best
    ],
)
def test_beats_best(combined: tuple[float, ...], alone: tuple[float, ...], expected: str) -> None:
    rows = {f"c{i}": "combined" for i in range(2)} | {f"a{i}": "alone" for i in range(2)}
    config = table({"base": "base", **rows}, "beats_best", metric="score", arms=["combined"], than=["alone"])
    gains = dict(zip(rows, (*combined, *alone), strict=True))
    values = {id: {"score": scores(gain, seed=i + 1)} for i, (id, gain) in enumerate(gains.items())}
    found = verdict(config, values)
    assert found.verdict == expected
    assert found.effect == pytest.approx(max(combined) - max(alone))
    assert verdict(config, {}).verdict == "not run"
