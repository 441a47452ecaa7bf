"""Claims about differences to another row: of all cells of a table, of some, or of most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.tables.config import ClaimConfig, RowConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval, paired_difference_interval

FORMS = ("all", "some", "most", "none")


@dataclass(frozen=True)
class Cell:
    """A row's metric less another row's, as it is shown; on the claimed side ``value`` and the wider
    ``wide`` (Bonferroni) lie above 0."""

    label: str
    shown: Interval
    value: Interval
    wide: Interval


@dataclass(frozen=True)
class Part:
    """What one test found: its verdict, what it says, the cell that decides it or speaks most against, the
    rows it compares; ``control`` if it is one of the others."""

    verdict: str
    text: str
    cell: Cell
    rows: tuple[str, ...]
    control: bool


def gains(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Do the paired differences of rows to other rows have a sign: all of them, some, or most?

    Parameters: ``tests``, by scale a list of ``{arms, metrics, sign: + or -, form, against, name}``. A cell
    is a row of one of the arms and a metric, less that of its baseline, or of the row ``against``. ``name``
    is what the text calls the test.

    - ``all``: supported if every 95% t interval lies on its side of 0, contradicted if some, widened for the
      number of cells (Bonferroni), lies on the other.
    - ``some``: supported if some widened interval lies on its side, contradicted if every 95% one lies on the
      other or is 0 throughout.
    - ``most``: supported if more than half of the 95% intervals lie on their side, contradicted if at least
      half lie on the other.
    - ``none``: a control of the others, supported if no 95% interval lies on its side, else inconclusive:
      where it fails, what the others found has another cause.

    The claim is supported if every test is, contradicted if some test is, else inconclusive. The effect is
    that of the test which speaks most against it; of a control only where controls alone leave it open.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    by_scale = spec.take("tests", Mapping)
    spec.finish()
    tests = [Section(test, f"claim {claim.id}: tests") for test in by_scale.get(evidence.scale, ())]
    if not tests:
        return undecided(claim, "not run", f"No tests are named at scale {evidence.scale}.")
    parts = []
    for test in tests:
        found = judged(claim, test, evidence)
        if isinstance(found, ClaimResult):
            return found
        parts.append(found)
    verdicts = [part.verdict for part in parts]
    verdict = next((v for v in ("contradicted", "inconclusive") if v in verdicts), "supported")
    deciding = [part for part in parts if part.verdict == verdict]
    tested = [part for part in deciding if not part.control] or deciding
    worst = min(tested, key=lambda part: strength(part.cell.value)).cell
    compared = [id for part in parts for id in part.rows]
    text = (
        f"Paired differences, mean over {evidence.unit(compared)} with 95% t interval. "
        + "; ".join(part.text for part in parts)
        + f".{effect_of(worst.label)}"
    )
    return ClaimResult(claim.id, verdict, worst.shown.value, worst.shown.low, worst.shown.high, text)


def judged(claim: ClaimConfig, test: Section, evidence: Evidence) -> Part | ClaimResult:
    """One test, or why it cannot be decided."""
    arms, metrics = test.take("arms", Sequence), test.take("metrics", Sequence)
    sign, form = test.choice("sign", ("+", "-")), test.choice("form", FORMS)
    against, name = test.optional("against", str, None), test.optional("name", str, ", ".join(arms))
    test.finish()
    rows = [row for row in evidence.config.rows_at(evidence.scale) if row.arm in arms]
    if not rows:
        return undecided(claim, "not run", f"No rows of {', '.join(arms)} at scale {evidence.scale}.")
    pairs = [(row, other_of(claim, row, against, evidence), metric) for row in rows for metric in metrics]
    for row, other, metric in pairs:
        for one in (row, other):
            if not evidence.series(one.id, metric):
                return undecided(claim, "not run", f"No values of {metric} of '{one.id}'.")
        if len(evidence.series(row.id, metric)) == 1:
            return undecided(claim, "inconclusive", "One value has no spread to test against.")
    direction = 1 if sign == "+" else -1
    cells = []
    for row, other, metric in pairs:
        ours, theirs = evidence.series(row.id, metric), evidence.series(other.id, metric)
        signed = [direction * value for value in ours], [direction * value for value in theirs]
        cells.append(
            Cell(
                f"{evidence.title(metric)} of {row.label} less {other.label}",
                paired_difference_interval(ours, theirs),
                paired_difference_interval(*signed),
                paired_difference_interval(*signed, corrected(len(pairs))),
            )
        )
    right, wrong = (sum(on_side(cell.value, way) for cell in cells) for way in (1, -1))
    nowhere = sum(cell.value.low == cell.value.high == 0 for cell in cells)
    verdict = VERDICTS[form](cells, right, wrong + nowhere)
    # The strongest cell is what decides whether some have the sign; the weakest whether all do.
    if form in ("some", "none"):
        shown, word = max(cells, key=lambda cell: cell.wide.low), "strongest"
    else:
        shown, word = min(cells, key=lambda cell: strength(cell.value)), "weakest"
    opposed = shown.value.high < 0 or form == "some"
    seen = span(shown.shown) + widened(
        shown.wide if sign == "+" else negated(shown.wide), len(cells), opposed
    )
    text = (
        f"{name}: claimed {sign} in {form} of {len(cells)} cells; {right} lie on that side beyond the noise, "
        f"{wrong} on the other; {word}: {shown.label} {seen}"
    )
    return Part(verdict, text, shown, tuple(row.id for row in rows), form == "none")


def other_of(claim: ClaimConfig, row: RowConfig, against: str | None, evidence: Evidence) -> RowConfig:
    """The row that a row is compared with. Raises SkiptuneError if there is none."""
    other = row.baseline if against is None else against
    if other is None:
        raise SkiptuneError(f"claim {claim.id}: row '{row.id}' names no baseline; give it or `against`")
    return evidence.config.row(other)


def strength(interval: Interval) -> float:
    """A value in units of its interval."""
    return interval.value / max(interval.high - interval.low, 1e-300)


def on_side(interval: Interval, direction: int) -> bool:
    """Whether the whole interval lies above 0, or with -1 below it."""
    return interval.low > 0 if direction == 1 else interval.high < 0


def negated(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low, interval.n)


def every(cells: Sequence[Cell], right: int, wrong: int) -> str:
    if any(cell.wide.high < 0 for cell in cells):
        return "contradicted"
    return "supported" if right == len(cells) else "inconclusive"


def some(cells: Sequence[Cell], right: int, wrong: int) -> str:
    if any(cell.wide.low > 0 for cell in cells):
        return "supported"
    return "contradicted" if wrong == len(cells) else "inconclusive"


def most(cells: Sequence[Cell], right: int, wrong: int) -> str:
    if 2 * right > len(cells):
        return "supported"
    return "contradicted" if 2 * wrong >= len(cells) else "inconclusive"


def none(cells: Sequence[Cell], right: int, wrong: int) -> str:
    return "inconclusive" if right else "supported"


VERDICTS = {"all": every, "some": some, "most": most, "none": none}
