"""The rows of an arm along a setting: what rules about curves by name start from."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig, RowConfig
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, undecided


def along(evidence: Evidence, arm: str, x: str) -> dict[float, RowConfig]:
    """The rows of an arm at this scale by their value of the setting, rising."""
    rows = [row for row in evidence.config.rows_at(evidence.scale) if row.arm == arm]
    found = {float(row.settings(evidence.selected.get(row.id))[x]): row for row in rows}
    return dict(sorted(found.items()))


def unmeasured(
    claim: ClaimConfig, evidence: Evidence, rows: Sequence[str], metric: str
) -> ClaimResult | None:
    """The verdict where rows have no values, or a single block; None where they can be judged."""
    if not rows:
        return undecided(claim, "not run", f"No such rows at scale {evidence.scale}.")
    for id in rows:
        if not evidence.series(id, metric):
            return undecided(claim, "not run", f"No values of '{id}'.")
        if len(evidence.series(id, metric)) == 1:
            return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    return None
