"""Feature extractors, the statistics kept of their features, metrics and confidence intervals."""

from skiptune.evaluation.extractors import FeatureExtractor, dataset_features, load_extractor
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.fid_infinity import fid_infinity
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.inception_score import inception_score
from skiptune.evaluation.intervals import (
    Interval,
    block_interval,
    paired_difference_interval,
    paired_ratio_interval,
)
from skiptune.evaluation.kernels import KERNELS, make_kernel
from skiptune.evaluation.kid import kid
from skiptune.evaluation.metrics import (
    METRICS,
    Metric,
    Reference,
    block_values,
    check_metrics,
    compute_metrics,
)
from skiptune.evaluation.mmd import cmmd, mmd
from skiptune.evaluation.precision_recall import Manifold, precision_recall
from skiptune.evaluation.protocols import PROTOCOLS, Protocol, Reduced, get_protocol
from skiptune.evaluation.statistics import GaussianStatistics, LowRankGaussian, fit_gaussian

__all__ = [
    "KERNELS",
    "METRICS",
    "PROTOCOLS",
    "FeatureExtractor",
    "FeatureSet",
    "GaussianStatistics",
    "Interval",
    "LowRankGaussian",
    "Manifold",
    "Metric",
    "Protocol",
    "Reduced",
    "Reference",
    "ReferenceStatistics",
    "block_interval",
    "block_values",
    "check_metrics",
    "cmmd",
    "compute_metrics",
    "dataset_features",
    "fid_infinity",
    "fit_gaussian",
    "frechet_distance",
    "get_protocol",
    "inception_score",
    "kid",
    "load_extractor",
    "make_kernel",
    "mmd",
    "paired_difference_interval",
    "paired_ratio_interval",
    "precision_recall",
]
