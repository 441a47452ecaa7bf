"""Claims about directions: what rises and what falls against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_difference_interval

TEST = "Difference to the other row, mean over paired {unit} with 95% t interval"


def signs(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does every named difference have its sign?

    Parameters: ``tests``, by scale a list of ``{row, metric, sign: + or -, against: a row}``; ``against`` is
    the row's baseline unless given. Supported if every interval lies on its side of 0; contradicted if some,
    widened for their number (Bonferroni), lies on the other; else inconclusive. The effect reported is the
    difference that speaks most against the claim, in units of its interval.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    by_scale = spec.take("tests", Mapping)
    spec.finish()
    tests = [Section(test, f"claim {claim.id}: tests") for test in by_scale.get(evidence.scale, ())]
    if not tests:
        return undecided(claim, "not run", f"No tests are named at scale {evidence.scale}.")
    said = TEST.format(unit=evidence.unit(test.take("row", str) for test in tests))
    found, margins = [], []
    for test in tests:
        row = evidence.config.row(test.take("row", str))
        metric, sign = test.take("metric", str), test.choice("sign", ("+", "-"))
        against = test.optional("against", str, row.baseline)
        test.finish()
        if against is None:
            raise SkiptuneError(f"claim {claim.id}: row '{row.id}' names no baseline; give it or `against`")
        ours, theirs = evidence.series(row.id, metric), evidence.series(against, metric)
        if not ours or not theirs:
            return undecided(claim, "not run", f"No values of '{against if ours else row.id}'. Test: {said}.")
        if len(ours) == 1:
            return undecided(claim, "inconclusive", f"One value has no spread. Test: {said}.")
        interval = paired_difference_interval(ours, theirs)
        direction = 1 if sign == "+" else -1
        low = min(direction * interval.low, direction * interval.high)
        wide = paired_difference_interval(ours, theirs, corrected(len(tests)))
        name = f"{evidence.title(metric)} of {row.label} minus {evidence.config.row(against).label}"
        margins.append((low, max(direction * wide.low, direction * wide.high), interval, name))
        opposed = max(direction * interval.low, direction * interval.high) < 0
        seen = span(interval) + widened(wide, len(tests), opposed)
        found.append(f"{name}: {seen} (claimed {sign})")
    verdict = _verdict([(low, high) for low, high, *_ in margins])
    *_, worst, name = min(
        margins, key=lambda margin: (margin[0] + margin[1]) / max(margin[1] - margin[0], 1e-300)
    )
    text = f"{said}: {'; '.join(found)}.{effect_of(name)}"
    return ClaimResult(claim.id, verdict, worst.value, worst.low, worst.high, text)


def _verdict(margins: Sequence[tuple[float, float]]) -> str:
    if any(high < 0 for _, high in margins):
        return "contradicted"
    return "supported" if all(low > 0 for low, _ in margins) else "inconclusive"
