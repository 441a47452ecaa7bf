"""The rows of an arm along a setting: what rules about curves by name start from."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig, RowConfig
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, undecided
from skiptune.errors import SkiptuneError


def along(claim: ClaimConfig, evidence: Evidence, arm: str, x: str) -> dict[float, RowConfig]:
    """The rows of an arm at this scale by their value of the setting, rising.

    Raises SkiptuneError for an arm that the table does not have, or values that are no different numbers.
    """
    if all(row.arm != arm for row in evidence.config.rows):
        raise SkiptuneError(f"claim {claim.id}: no row has the arm '{arm}'")
    found: dict[float, RowConfig] = {}
    for row in evidence.config.rows_at(evidence.scale):
        if row.arm != arm:
            continue
        value = row.settings(evidence.selected.get(row.id)).get(x)
        if not isinstance(value, int | float) or float(value) in found:
            raise SkiptuneError(f"claim {claim.id}: row '{row.id}' needs a number of its own as {x}")
        found[float(value)] = row
    return dict(sorted(found.items()))


def baselines(claim: ClaimConfig, evidence: Evidence, rows: Sequence[RowConfig]) -> list[RowConfig]:
    """The rows that these are compared with. Raises SkiptuneError for one that names none."""
    for row in rows:
        if row.baseline is None:
            raise SkiptuneError(f"claim {claim.id}: row '{row.id}' names no baseline; give it one")
    return [evidence.config.row(row.baseline or "") for row in rows]


def unmeasured(
    claim: ClaimConfig, evidence: Evidence, rows: Sequence[RowConfig], metric: str
) -> ClaimResult | None:
    """The verdict where rows have no values, or a single block; None where they can be judged."""
    if not rows:
        return undecided(claim, "not run", f"No such rows at scale {evidence.scale}.")
    for row in rows:
        if not evidence.series(row.id, metric):
            return undecided(claim, "not run", f"No values of '{row.id}'.")
        if len(evidence.series(row.id, metric)) == 1:
            return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    return None
