"""Claims that most of several metrics fall."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, effect_of, span, undecided
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_difference_interval


def mostly_below(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Do more than half of the metrics of a row lie below its baseline's beyond the noise?

    Parameters: ``row``, ``metrics``. The effect is the share of metrics whose paired difference has a 95% t
    interval below 0. Supported if it exceeds one half; contradicted if at least half of the intervals lie
    above 0; else inconclusive.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    row, metrics = evidence.config.row(spec.take("row", str)), spec.take("metrics", Sequence)
    spec.finish()
    if row.baseline is None:
        raise SkiptuneError(f"claim {claim.id}: row '{row.id}' names no baseline; give it one")
    found, below, above = [], 0, 0
    for metric in metrics:
        ours, theirs = evidence.series(row.id, metric), evidence.series(row.baseline, metric)
        if not ours or not theirs:
            return undecided(claim, "not run", f"No values of {metric}.")
        if len(ours) == 1:
            return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
        difference = paired_difference_interval(ours, theirs)
        below, above = below + (difference.high < 0), above + (difference.low > 0)
        found.append(f"{metric}: {span(difference)}")
    share = below / len(metrics)
    halves = 2 * above >= len(metrics)
    verdict = "supported" if share > 0.5 else "contradicted" if halves else "inconclusive"
    text = (
        f"{below} of {len(metrics)} metrics fall, {above} rise, beyond the noise. Difference to baseline, "
        f"mean over paired seed blocks with 95% t interval: {'; '.join(found)}."
        f"{effect_of('share of the metrics that fall beyond the noise')}"
    )
    return ClaimResult(claim.id, verdict, share, None, None, text)
