"""The rules behind the claims of S2-DMs, on simulated block values whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from experiments.tables.results import ClaimResult
from experiments.tables.rules import Evidence, judge
from experiments.tables.rules.advantage_falls import slopes
from skiptune.errors import SkiptuneError

STEPS = (10, 20, 50, 100)
Truth = Callable[[int], float]


def table(arms: Mapping[str, str | None], rule: str, **parameters: Any) -> TableConfig:
    """A figure with arms of rows at all steps, arm -> arm of its baseline, and one claim."""
    rows = [
        {
            "id": f"{arm}_{steps}",
            "label": f"{arm}, {steps} steps",
            "arm": arm,
            "role": "role",
            "sampler": {"name": "ddim", "steps": steps},
            "baseline": None if base is None else f"{base}_{steps}",
        }
        for arm, base in arms.items()
        for steps in STEPS
    ]
    claims = [{"id": "C", "statement": "S", "rule": rule, "parameters": {"metric": "fid", **parameters}}]
    head = {"paper": "s2dm", "figure": 99, "title": "simulated", "dataset": "none"}
    columns = [{"key": "fid", "title": "FID", "kind": "metric"}]
    return parse_table({**head, "columns": columns, "rows": rows, "claims": claims}, "simulated")


def verdict(config: TableConfig, truth: Mapping[str, Truth], noise: float = 0.005, n: int = 3) -> ClaimResult:
    """Three blocks per row around its true value, of one scale per block as with equal seeds."""
    random = np.random.default_rng(0)
    common = 1 + 0.1 * random.standard_normal(n)
    values = {
        f"{arm}_{steps}": {"fid": list(of(steps) * common * (1 + noise * random.standard_normal(n)))}
        for arm, of in truth.items()
        for steps in STEPS
    }
    (claim,) = judge(Evidence(config, "desk", values))
    return claim


def plain(steps: int) -> float:
    return 10 + 100 / steps


def test_slopes_are_those_of_a_line_in_the_logarithm() -> None:
    x = [1.0, 10.0, 100.0]
    values = np.outer(np.log(x), [2.0, -3.0]) + [5.0, 7.0]
    assert slopes(x, values) == pytest.approx([2.0, -3.0])


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        (lambda steps: plain(steps) * (1 - 1 / steps**0.5), "supported"),  # gains fall in both forms
        (lambda steps: plain(steps) * (0.7 - 0.001 * steps), "inconclusive"),  # relative gains rise only
        (lambda steps: plain(steps) - 0.05 * steps, "contradicted"),
        (lambda steps: plain(steps) * (1.1 + 0.1 * np.log(steps)), "contradicted"),  # never an advantage
    ],
)
def test_advantage_falls_in_both_forms(tuned: Truth, expected: str) -> None:
    config = table({"plain": None, "tuned": "plain"}, "advantage_falls", x="steps", arm="tuned")
    claim = verdict(config, {"plain": plain, "tuned": tuned})
    assert claim.verdict == expected, claim
    assert "absolute" in claim.test and "relative" in claim.test


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [(0.99, 0.8, "supported"), (0.8, 0.99, "contradicted"), (1.05, 0.95, "inconclusive")],
)
def test_closer_compares_distances_whatever_their_sign(near: float, far: float, expected: str) -> None:
    config = table(
        {"plain": None, "small": "plain", "large": "plain"}, "closer", x="steps", near="small", far="large"
    )
    truth: dict[str, Truth] = {
        "plain": plain,
        "small": lambda steps: near * plain(steps),
        "large": lambda steps: far * plain(steps),
    }
    assert verdict(config, truth).verdict == expected


def test_closer_refuses_arms_that_do_not_match() -> None:
    arms = {"plain": None, "small": "plain", "large": None}
    config = table(arms, "closer", x="steps", near="small", far="large")
    with pytest.raises(SkiptuneError, match="equal values of steps and equal baselines"):
        verdict(config, {name: plain for name in arms})


@pytest.mark.parametrize(
    ("curve", "other", "expected"),
    [
        (lambda steps: 10 + abs(steps - 20) / 10, plain, "supported"),
        (plain, plain, "contradicted"),  # never turns up
        (lambda steps: 10 + abs(steps - 20) / 10, lambda steps: 10 + steps, "contradicted"),  # others rise
        (lambda steps: 10 + (steps - 10) / 10, plain, "contradicted"),  # lowest at the first, not in `at`
    ],
)
def test_minimum_at_given_places(curve: Truth, other: Truth, expected: str) -> None:
    config = table(
        {"large": None, "small": None},
        "minimum_at", x="steps", arm="large", at=[20, 50], excess=1.2, falling=["small"], margin=0.05,
    )  # fmt: skip
    assert verdict(config, {"large": curve, "small": other}).verdict == expected


def test_pairs_are_compared_with_the_row_they_name() -> None:
    arms = {"plain": None, "long": "plain", "tuned": "plain"}
    pairs = [[f"tuned_{steps}", f"long_{steps}"] for steps in STEPS]
    config = table(arms, "ratio_below", weak=1.0, strong=0.95, rows={"desk": pairs})
    truth: dict[str, Truth] = {
        "plain": plain,
        "long": lambda s: 0.8 * plain(s),
        "tuned": lambda s: 0.9 * plain(s),
    }
    claim = verdict(config, truth)
    assert claim.verdict == "contradicted" and claim.effect == pytest.approx(1.125, rel=0.02)
    assert "tuned, 10 steps over long, 10 steps" in claim.test
    alone = table(
        arms, "ratio_below", weak=1.0, strong=0.95, rows={"desk": [f"tuned_{steps}" for steps in STEPS]}
    )
    assert verdict(alone, truth).verdict == "supported"


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("advantage_falls", {"x": "steps", "arm": "tuned"}),
        ("closer", {"x": "steps", "near": "tuned", "far": "tuned"}),
    ],
)
def test_what_was_not_measured_is_not_judged(rule: str, parameters: dict[str, Any]) -> None:
    config = table({"plain": None, "tuned": "plain"}, rule, **parameters)
    assert verdict(config, {}).verdict == "not run"
    assert verdict(config, {"plain": plain, "tuned": plain}, n=1).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("rule", "parameters", "words"),
    [
        ("advantage_falls", {"x": "steps", "arm": "plain"}, "row 'plain_10' names no baseline"),
        ("advantage_falls", {"x": "steps", "arm": "tunde"}, "no row has the arm 'tunde'"),
        ("advantage_falls", {"x": "rho", "arm": "tuned"}, "row 'tuned_10' needs a number of its own as rho"),
        (
            "minimum_at",
            {"x": "steps", "arm": "tuned", "at": [30], "excess": 1.2, "falling": [], "margin": 0.05},
            "no row of 'tuned' is at steps 30",
        ),
    ],
)
def test_parameters_that_do_not_fit_the_rows(rule: str, parameters: dict[str, Any], words: str) -> None:
    config = table({"plain": None, "tuned": "plain"}, rule, **parameters)
    with pytest.raises(SkiptuneError, match=words):
        verdict(config, {"plain": plain, "tuned": plain})


def test_printed_ratios_are_those_of_the_pair_where_the_paper_has_it() -> None:
    """Table 5's verdicts at desk scale are of CelebA, its first pairs at paper scale of CIFAR-10."""
    path = Path(__file__).resolve().parents[3] / "configs/table/s2dm/05.yaml"
    config = parse_table(yaml.safe_load(path.read_text(encoding="utf-8")), "table=s2dm/05")
    values = {row.id: {"fid": [10.0, 11.0, 12.0]} for row in config.rows}
    found = {claim.id: claim.test for claim in judge(Evidence(config, "desk", values))}
    assert "(paper 0.487)" in found["S2-C17"] and "(paper 0.536)" in found["S2-C5"]
    assert "(paper 0.437)" not in found["S2-C17"]
