"""Claims that some conditions are among the least harmful in two metrics at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tables.config import ClaimConfig, RowConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.curves import RESAMPLES, SURE
from experiments.tables.rules.evidence import Evidence, effect_of, undecided
from skiptune.runtime.files import canonical_json


def least_harm(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Do all rows of an arm lie on or below the median of two metrics, and is one of them Pareto-optimal?

    Parameters: ``metrics``, two of them, lower is better; ``arm``; ``among``, the arms of all conditions,
    this one included. A strategy that is in several of them, or in the arm twice, counts once, for the arm
    if it is in it. The blocks, which all rows share, are drawn with replacement 2000 times; the effect is the
    share of the draws in which the claim holds. Supported from 97.5% on, contradicted up to 2.5%.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metrics, arm = spec.take("metrics", Sequence), spec.take("arm", str)
    among = spec.take("among", Sequence)
    spec.finish()
    found = [row for row in evidence.config.rows_at(evidence.scale) if row.arm in among]
    rows = once_each(found, arm, evidence)
    own = np.array([row.arm == arm for row in rows])
    if not own.any() or own.all():
        return undecided(claim, "not run", f"No rows of {arm}, or of no other arm.")
    series = [[evidence.series(row.id, metric) for metric in metrics] for row in rows]
    if not all(len(values) for several in series for values in several):
        return undecided(claim, "not run", "Not all rows were measured.")
    data = np.array(series, dtype=np.float64)  # [rows, metrics, blocks]
    count = data.shape[2]
    if count == 1:
        return undecided(claim, "inconclusive", "One block has no spread to test against.")
    generator = np.random.default_rng(0)
    draws = [generator.integers(count, size=count) for _ in range(RESAMPLES)]
    share = float(np.mean([holds(data[:, :, draw].mean(axis=2), own) for draw in draws]))
    verdict = "supported" if share >= SURE else "contradicted" if share <= 1 - SURE else "inconclusive"
    means = data.mean(axis=2)
    below, optimal = below_medians(means), pareto(means)
    names = [row.label for row, first, best in zip(rows, own, optimal, strict=True) if first and best]
    text = (
        f"{(below & own).sum()} of {own.sum()} strategies of {arm} lie on or below the median of {len(rows)} "
        f"in {' and '.join(metrics)}, of the others {(below & ~own).sum()} of {(~own).sum()}; Pareto-optimal "
        f"of {arm}: {', '.join(names) or 'none'} ({optimal.sum()} in all). {len(found)} rows, a strategy "
        f"counts once. Claimed: all, and at least one optimal; holds in {share:.1%} of {RESAMPLES} resamples "
        f"of the {count} blocks."
        f"{effect_of('share of resamples in which it holds')}"
    )
    return ClaimResult(claim.id, verdict, share, None, None, text)


def once_each(rows: Sequence[RowConfig], arm: str, evidence: Evidence) -> list[RowConfig]:
    """One row a strategy, of ``arm`` if one is. Rows that skip equal blocks, as measured, have one strategy;
    to fine-tune is another."""
    found: dict[str, RowConfig] = {}
    for row in sorted(rows, key=lambda row: row.arm != arm):
        blocks = evidence.interventions.get(row.id, {}).get("blocks", row.id)
        found.setdefault(canonical_json([blocks, row.measure.get("tuning")]), row)
    return list(found.values())


def below_medians(values: np.ndarray) -> np.ndarray:
    """Which rows of ``[rows, metrics]`` are on or below the median of every metric."""
    return np.asarray((values <= np.median(values, axis=0)).all(axis=1))


def pareto(values: np.ndarray) -> np.ndarray:
    """Which rows no other row is as low as in every metric and lower in one."""
    lower = (values[:, None] <= values[None]).all(axis=2) & (values[:, None] < values[None]).any(axis=2)
    return np.asarray(~lower.any(axis=0))


def holds(values: np.ndarray, own: np.ndarray) -> bool:
    """The claim for values ``[rows, metrics]``."""
    return bool(below_medians(values)[own].all() and pareto(values)[own].any())
