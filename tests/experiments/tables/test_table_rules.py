from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from experiments.tables.config import TableConfig
from experiments.tables.results import ClaimResult
from experiments.tables.rules import Evidence, judge
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_ratio_interval

Blocks = Callable[..., dict[str, dict[str, list[float]]]]


def _judge(config: TableConfig, blocks: Any, scale: str = "desk") -> ClaimResult:
    (claim,) = judge(Evidence(config, scale, blocks))
    assert claim.id == "ST-C1"
    return claim


@pytest.mark.parametrize(
    ("heun", "unipc", "noise", "verdict", "strong"),
    [
        (0.50, 0.45, 0.01, "supported", "holds"),
        (0.80, 0.45, 0.01, "supported", "does not hold"),
        (0.60, 0.45, 0.05, "supported", "undecided"),
        (1.00, 0.45, 0.05, "inconclusive", "does not hold"),
        (1.20, 0.45, 0.01, "contradicted", "does not hold"),
        (1.20, 1.00, 0.05, "contradicted", "does not hold"),
    ],
)
def test_verdict_on_simulated_blocks(
    config: TableConfig, blocks: Blocks, heun: float, unipc: float, noise: float, verdict: str, strong: str
) -> None:
    claim = _judge(config, blocks(heun, unipc, noise))
    assert claim.verdict == verdict
    assert f"Strong form (every ratio at most 0.6): {strong}." in claim.test


def test_effect_is_the_ratio_of_the_worse_sampler(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(0.5, 0.8)
    claim = _judge(config, values)
    ratio = paired_ratio_interval(values["unipc_selected"]["fid"], values["unipc_baseline"]["fid"])
    assert (claim.effect, claim.low, claim.high) == (ratio.value, ratio.low, ratio.high)
    # Blocks differ by 10 percent, pairs by 1: only a paired interval is this narrow.
    assert ratio.high - ratio.low < 0.05
    assert "(paper 0.533)" in claim.test and "(paper 0.497)" in claim.test


def test_contradicted_shows_the_ratio_that_contradicts(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(1.1, 1.0, 0.001)
    values["unipc_selected"]["fid"][0] *= 3  # a wide interval with the higher end, but on both sides of 1
    claim = _judge(config, values)
    assert claim.verdict == "contradicted"
    assert claim.low is not None and claim.low > 1


def test_strong_form_that_real_images_would_miss_is_out_of_reach(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(0.5, 0.9)
    unipc = sum(values["unipc_baseline"]["fid"]) / len(values["unipc_baseline"]["fid"])
    for floor, said in ((0.7 * unipc, "0.700 of UniPC, baseline"), (0.5 * unipc, None)):
        (claim,) = judge(Evidence(config, "desk", values, floors={"class_conditional_edm": {"fid": floor}}))
        assert claim.verdict == "supported"
        assert ("out of reach" in claim.test) == (said is not None)
        assert said is None or f"does not hold and out of reach (real images have {said})" in claim.test


def test_paper_scale_tests_the_papers_rho(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(0.5, 0.5)
    for row in ("heun_selected", "unipc_selected"):
        values[row] = {"fid": [1000.0] * 6}
    assert _judge(config, values, "paper").verdict == "supported"
    assert _judge(config, values, "desk").verdict == "contradicted"


def test_one_block_is_inconclusive(config: TableConfig, blocks: Blocks) -> None:
    claim = _judge(config, blocks(0.5, 0.5, count=1))
    assert (claim.verdict, claim.effect) == ("inconclusive", None)


def test_missing_rows_are_not_run(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(0.5, 0.5)
    del values["unipc_baseline"]
    claim = _judge(config, values)
    assert claim.verdict == "not run" and "unipc_baseline" in claim.test


def test_unpaired_blocks_are_refused(config: TableConfig, blocks: Blocks) -> None:
    values = blocks(0.5, 0.5)
    values["heun_baseline"]["fid"].pop()
    with pytest.raises(SkiptuneError, match="same seed blocks"):
        _judge(config, values)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rule": "guess"}, "unknown rule 'guess'"), ({"parameters": {"metric": "fid"}}, "missing key 'weak'")],
)
def test_wrong_claims_are_named(
    config: TableConfig, blocks: Blocks, change: dict[str, Any], words: str
) -> None:
    claim = dataclasses.replace(config.claims[0], **change)
    with pytest.raises(SkiptuneError, match=f"claim ST-C1.*{words}"):
        _judge(dataclasses.replace(config, claims=(claim,)), blocks(0.5, 0.5))
