"""Claims that quantities lie above or below fixed bounds."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval, block_interval

TEST = "Mean over {unit} with 95% t interval"


def sides(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does every named quantity lie on its side of its bound?

    Parameters: ``tests``, by scale a list of ``{row, metric, above: bound}`` or ``{row, metric, below:
    bound}``. Supported if every 95% t interval over seed blocks lies on its side; contradicted if some,
    widened for their number (Bonferroni), lies on the other; else inconclusive. The effect reported is the
    quantity that speaks most against the claim, by its distance from the bound in units of its interval.
    """
    said = TEST.format(unit=evidence.unit)
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    by_scale = spec.take("tests", Mapping)
    spec.finish()
    tests = [Section(test, f"claim {claim.id}: tests") for test in by_scale.get(evidence.scale, ())]
    if not tests:
        return undecided(claim, "not run", f"No tests are named at scale {evidence.scale}.")
    found: list[str] = []
    margins: list[tuple[float, Interval]] = []
    inside, against = True, False
    for test in tests:
        row, metric = evidence.config.row(test.take("row", str)), test.take("metric", str)
        ways = [way for way in ("above", "below") if way in test.data]
        if len(ways) != 1:
            raise SkiptuneError(f"{test.where}: give one of above, below for '{row.id}'")
        bound, direction = test.number(ways[0]), 1 if ways[0] == "above" else -1
        test.finish()
        values = evidence.series(row.id, metric)
        if not values:
            return undecided(claim, "not run", f"No values of '{row.id}'. Test: {said}.")
        if len(values) == 1:
            return undecided(claim, "inconclusive", f"One value has no spread. Test: {said}.")
        # Above 0 on the claimed side, so that one comparison serves both.
        ours = [direction * (value - bound) for value in values]
        margin, widest = block_interval(ours), block_interval(ours, corrected(len(tests)))
        inside, against = inside and margin.low > 0, against or widest.high < 0
        interval, wide = block_interval(values), block_interval(values, corrected(len(tests)))
        margins.append((margin.value / max(margin.high - margin.low, 1e-300), interval))
        seen = span(interval) + widened(wide, len(tests), margin.high < 0)
        found.append(f"{metric} of {row.label}: {seen} (claimed {ways[0]} {bound:g})")
    verdict = "contradicted" if against else "supported" if inside else "inconclusive"
    worst = min(margins, key=lambda margin: margin[0])[1]
    text = f"{said}: {'; '.join(found)}."
    return ClaimResult(claim.id, verdict, worst.value, worst.low, worst.high, text)
