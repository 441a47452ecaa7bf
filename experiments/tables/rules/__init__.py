"""Verdicts on claims: a rule is a function named in the table file, with numbers fixed before the run."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.results import ClaimResult
from experiments.tables.rules.advantage_falls import advantage_falls
from experiments.tables.rules.beats_best import beats_best
from experiments.tables.rules.bound import below_bound
from experiments.tables.rules.closer import closer
from experiments.tables.rules.closer_at_gain import closer_at_gain
from experiments.tables.rules.curves import CURVE_RULES
from experiments.tables.rules.divergence import diverges_alone
from experiments.tables.rules.equivalence import share_of_gain
from experiments.tables.rules.evidence import Evidence, Rule
from experiments.tables.rules.gains import gains
from experiments.tables.rules.least_harm import least_harm
from experiments.tables.rules.limit import below_limit
from experiments.tables.rules.minimum_at import minimum_at
from experiments.tables.rules.mostly_below import mostly_below
from experiments.tables.rules.never_rises import never_rises
from experiments.tables.rules.ratio_below import ratio_below
from experiments.tables.rules.ruin import ruined_beyond
from experiments.tables.rules.sides import sides
from experiments.tables.rules.signs import signs
from experiments.tables.rules.within import within
from skiptune.errors import SkiptuneError

__all__ = ["RULES", "Evidence", "Rule", "check_rules", "judge"]

# A further claim adds its rule here, in a module of its own.
RULES: dict[str, Rule] = {
    "ratio_below": ratio_below,
    "below_limit": below_limit,
    "signs": signs,
    "sides": sides,
    "share_of_gain": share_of_gain,
    "mostly_below": mostly_below,
    "below_bound": below_bound,
    "never_rises": never_rises,
    "ruined_beyond": ruined_beyond,
    "within": within,
    "diverges_alone": diverges_alone,
    "advantage_falls": advantage_falls,
    "closer": closer,
    "minimum_at": minimum_at,
    "gains": gains,
    "least_harm": least_harm,
    "closer_at_gain": closer_at_gain,
    "beats_best": beats_best,
    **CURVE_RULES,
}


def judge(evidence: Evidence) -> tuple[ClaimResult, ...]:
    """The verdict on every claim of the table. Raises SkiptuneError for an unknown rule or parameter."""
    return tuple(_rule(claim)(claim, evidence) for claim in evidence.config.claims)


def check_rules(claims: Sequence[ClaimConfig]) -> None:
    """Raises SkiptuneError for an unknown rule, before anything is measured."""
    for claim in claims:
        _rule(claim)


def _rule(claim: ClaimConfig) -> Rule:
    if claim.rule not in RULES:
        raise SkiptuneError(
            f"claim {claim.id}: unknown rule '{claim.rule}'; known rules: {', '.join(sorted(RULES))}"
        )
    return RULES[claim.rule]
