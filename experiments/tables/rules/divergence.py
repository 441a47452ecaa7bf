"""Claims that one way of training diverges under mixed precision and another does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import fisher_exact

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, effect_of, undecided


def diverges_alone(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Do trainings of some rows diverge under mixed precision, and none of others?

    Parameters: ``rows`` and ``others``, by scale the ids of rows with the counts ``trainings``,
    ``half_precision`` and ``diverged``; ``least``, how many trainings of each there must be. Supported if
    none of the others diverged and Fisher's exact test (one-sided) says at 5% that the rows diverge more
    often; contradicted if it says that they diverge less often; else inconclusive. Where nothing diverged the
    text says that the claim is not supported, and how often the rows may still diverge. The effect is the
    difference of the shares that diverged.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    groups = [spec.take(key, Mapping).get(evidence.scale, ()) for key in ("rows", "others")]
    least = spec.take("least", int)
    spec.finish()
    for id in (id for group in groups for id in group):
        evidence.config.row(id)  # a mistyped id is an error
    if not all(groups) or not all(evidence.series(id, "trainings") for group in groups for id in group):
        return undecided(claim, "not run", f"The trainings are not known at scale {evidence.scale}.")
    (runs, half, diverged), (other_runs, other_half, other_diverged) = (
        tuple(_total(evidence, group, name) for name in ("trainings", "half_precision", "diverged"))
        for group in groups
    )
    counts = (
        f"{diverged} of {runs} trainings of {_labels(evidence, groups[0])} diverged, {other_diverged} of "
        f"{other_runs} of {_labels(evidence, groups[1])}"
    )
    if (half, other_half) != (runs, other_runs):
        return undecided(claim, "not run", f"Not all trainings were in mixed precision. {counts}.")
    if min(runs, other_runs) < least:
        return undecided(claim, "inconclusive", f"Fewer than {least} trainings of one kind. {counts}.")
    table = np.array([[diverged, runs - diverged], [other_diverged, other_runs - other_diverged]])
    more, less = (float(fisher_exact(table, alternative=side).pvalue) for side in ("greater", "less"))
    verdict = "inconclusive"
    if other_diverged == 0 and more <= 0.05:
        verdict = "supported"
    elif less <= 0.05:
        verdict = "contradicted"
    text = f"{counts} (Fisher's exact test that the former diverge more often: p = {more:.3g})."
    if diverged == other_diverged == 0:
        bound = 1 - 0.05 ** (1 / runs)
        text = (
            f"Not supported: no training diverged. {text} {runs} sound trainings leave room for up to "
            f"{bound:.0%} that diverge (95%), so it is not refuted either."
        )
    own, other = (_labels(evidence, group) for group in groups)
    text += effect_of(f"share of trainings that diverged, of {own} less that of {other}")
    effect = diverged / runs - other_diverged / other_runs
    return ClaimResult(claim.id, verdict, effect, None, None, text)


def _total(evidence: Evidence, rows: Sequence[str], metric: str) -> int:
    """The sum over rows of a count, which is the same in every seed block."""
    return round(sum(evidence.series(row, metric)[0] for row in rows))


def _labels(evidence: Evidence, rows: Sequence[str]) -> str:
    return ", ".join(evidence.config.row(row).label for row in rows)
