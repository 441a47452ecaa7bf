"""Claims that quantities lie above or below fixed bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval

TEST = "Mean over {unit} with 95% {kind} interval"


def sides(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does every named quantity lie on its side of its bound?

    Parameters: ``tests``, by scale a list of ``{row, metric, above: bound}`` or ``{row, metric, below:
    bound}``. Supported if every 95% interval over seed blocks (Student's t, of shares Wilson's) lies on its
    side; contradicted if some, widened for their number (Bonferroni), lies on the other; else inconclusive.
    The effect reported is the quantity that speaks most against the claim, by its distance from the bound in
    units of its interval.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    by_scale = spec.take("tests", Mapping)
    spec.finish()
    tests = [Section(test, f"claim {claim.id}: tests") for test in by_scale.get(evidence.scale, ())]
    if not tests:
        return undecided(claim, "not run", f"No tests are named at scale {evidence.scale}.")
    said = described(claim, tests, evidence)
    found: list[str] = []
    margins: list[tuple[float, Interval, str]] = []
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
        interval = evidence.interval(values, metric)
        wide = evidence.interval(values, metric, corrected(len(tests)))
        margin, widest = margin_of(interval, bound, direction), margin_of(wide, bound, direction)
        inside, against = inside and margin.low > 0, against or widest.high < 0
        name = f"{evidence.title(metric)} of {row.label}"
        margins.append((margin.value / max(margin.high - margin.low, 1e-300), interval, name))
        seen = span(interval) + widened(wide, len(tests), margin.high < 0)
        found.append(f"{name}: {seen} (claimed {ways[0]} {bound:g})")
    verdict = "contradicted" if against else "supported" if inside else "inconclusive"
    _, worst, name = min(margins, key=lambda margin: margin[0])
    text = f"{said}: {'; '.join(found)}.{effect_of(name)}"
    return ClaimResult(claim.id, verdict, worst.value, worst.low, worst.high, text)


def described(claim: ClaimConfig, tests: Sequence[Section], evidence: Evidence) -> str:
    """What is tested: over what, and by which intervals."""
    shares = [test.take("metric", str) in evidence.config.shares for test in tests]
    kind = "Wilson" if all(shares) else "t interval, of shares Wilson" if any(shares) else "t"
    return TEST.format(unit=evidence.unit(test.take("row", str) for test in tests), kind=kind)


def margin_of(interval: Interval, bound: float, direction: int) -> Interval:
    """The interval by its distance from the bound, above 0 on the claimed side."""
    low, high = sorted((direction * (interval.low - bound), direction * (interval.high - bound)))
    return Interval(direction * (interval.value - bound), low, high, interval.n)
