"""Which transformer blocks matter at which step (Importance Probe), and what to do with the answer.

The probe gives thresholds, votes over its runs an importance score; ``ablation_errors`` is the direct measure
beside it. Scores become block weights, rankings become blocks to skip. ``optimal_weights`` are those of the
paper's Eq. 4, measured, and ``fitted_weights`` those that lower the error of the noise prediction.
"""

from skiptune.importance.ablation import ablation_errors, images_without
from skiptune.importance.agreement import rank_agreement
from skiptune.importance.fitted import fitted_weights
from skiptune.importance.probe import ProbeState, run_probe, start_probe
from skiptune.importance.proposition import VarianceTerms, optimal_weights, variance_terms
from skiptune.importance.settings import RELEASED, TEXT, ProbeSettings, ThresholdRule
from skiptune.importance.strategies import baseline_strategies, ranked_strategies
from skiptune.importance.teacher import Teacher
from skiptune.importance.votes import Importance
from skiptune.importance.weights import importance_weights

__all__ = [
    "RELEASED", "TEXT", "Importance", "ProbeSettings", "ProbeState", "Teacher", "ThresholdRule",
    "VarianceTerms", "ablation_errors", "baseline_strategies", "fitted_weights", "images_without",
    "importance_weights", "optimal_weights", "rank_agreement", "ranked_strategies", "run_probe",
    "start_probe", "variance_terms",
]  # fmt: skip
