"""Claims that something falls below its baseline: by how much, with a weak and a strong form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.tables.config import ClaimConfig, RowConfig, TableConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval, paired_ratio_interval


def ratio_below(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is metric(row) / metric(its baseline) below `weak` for every row named at this scale?

    A pair of ids `[row, other]` in place of a row is compared with that other row.

    Weak form, from each row's paired 95% interval of the ratio over seed blocks: supported if every upper end
    is below `weak`, contradicted if some lower end is above it, else inconclusive (as with a single block).
    "Every row" is an intersection of tests, so `supported` needs no correction for their number; the
    intervals that contradict are widened for it (Bonferroni). The strong
    form, with `strong` in place of `weak`, is decided in the same way and stated in the text; where images as
    good as real ones would not reach it, because FID of few images is far from 0 for any, the text says that
    it is out of reach. The effect reported is that of the row that speaks most against the claim.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, weak, strong = spec.take("metric", str), spec.number("weak"), spec.number("strong")
    by_scale = spec.take("rows", Mapping)
    spec.finish()
    test = f"Ratio of {metric} to the baseline's, geometric mean over paired seed blocks with 95% t interval"

    def no_number(verdict: str, why: str) -> ClaimResult:
        return undecided(claim, verdict, f"{why} Test: {test}.")

    pairs = _pairs(claim, evidence.config, by_scale.get(evidence.scale, ()))
    if not pairs:
        return no_number("not run", f"No rows are named at scale {evidence.scale}.")
    ratios, wide, found, short = [], [], [], []
    of_paper = [_printed(pair, metric) for pair in _pairs(claim, evidence.config, by_scale.get("paper", ()))]
    printed = [_printed(pair, metric) or at(of_paper, i) for i, pair in enumerate(pairs)]
    for i, (row, other) in enumerate(pairs):
        tuned, baseline = evidence.series(row.id, metric), evidence.series(other.id, metric)
        if not tuned or not baseline:
            return no_number("not run", f"No values of '{other.id if tuned else row.id}'.")
        if len(tuned) == len(baseline) == 1:
            return no_number("inconclusive", "One seed block has no spread to test against.")
        ratios.append(paired_ratio_interval(tuned, baseline))
        wide.append(paired_ratio_interval(tuned, baseline, corrected(len(pairs))))
        seen = span(ratios[-1]) + widened(wide[-1], len(pairs), ratios[-1].low > min(weak, strong))
        name = row.label if other.id == row.baseline else f"{row.label} over {other.label}"
        found.append(f"{name}: {seen}, n = {ratios[-1].n}{printed[i]}")

        floor = evidence.floors.get(row.role, {}).get(metric, 0.0) / float(np.mean(baseline))
        if other.id == row.baseline and floor > strong:
            short.append(f"{floor:.3f} of {other.label}")

    verdict = _side(ratios, wide, weak)
    reach = f" and out of reach (real images have {', '.join(short)})" if short else ""
    holds = {"supported": "holds", "contradicted": "does not hold", "inconclusive": "undecided"}
    worst = max(ratios, key=lambda ratio: (ratio.low > weak, ratio.value))
    text = (
        f"Weak form (every ratio below {weak:g}): {holds[verdict]}. "
        f"Strong form (every ratio at most {strong:g}): {holds[_side(ratios, wide, strong)]}{reach}. "
        f"{test}: {'; '.join(found)}."
    )
    return ClaimResult(claim.id, verdict, worst.value, worst.low, worst.high, text)


def _side(ratios: Sequence[Interval], wide: Sequence[Interval], bound: float) -> str:
    """Whether certainly all of the ratios lie below the bound (supported) or one above it (contradicted)."""
    if any(ratio.low > bound for ratio in wide):
        return "contradicted"
    return "supported" if all(ratio.high < bound for ratio in ratios) else "inconclusive"


def _pairs(
    claim: ClaimConfig, config: TableConfig, named: Sequence[str | Sequence[str]]
) -> list[tuple[RowConfig, RowConfig]]:
    """Rows and what each is compared with. Raises SkiptuneError for one alone that names no baseline."""
    pairs = []
    for ids in named:
        id, other = (ids, config.row(ids).baseline) if isinstance(ids, str) else ids
        if other is None:
            raise SkiptuneError(f"claim {claim.id}: row '{id}' names no baseline; give it one")
        pairs.append((config.row(id), config.row(other)))
    return pairs


def _printed(pair: tuple[RowConfig, RowConfig], metric: str) -> str:
    """The paper's own ratio of a pair in words, if it prints both values."""
    own, base = (row.paper.get(metric) for row in pair)
    return f" (paper {own / base:.3f})" if own and base else ""


def at(words: Sequence[str], i: int) -> str:
    """For a row that the paper does not have, such as a selected rho: its ratio of the same place."""
    return words[i] if i < len(words) else ""
