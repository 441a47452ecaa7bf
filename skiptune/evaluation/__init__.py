"""Feature extractors, the statistics kept of their features, metrics and confidence intervals."""

from skiptune.evaluation.extractors import FeatureExtractor, dataset_features, load_extractor
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.intervals import (
    Interval,
    block_interval,
    paired_difference_interval,
    paired_ratio_interval,
)
from skiptune.evaluation.metrics import METRICS, Metric, Reference, block_values, compute_metrics
from skiptune.evaluation.statistics import GaussianStatistics

__all__ = [
    "METRICS",
    "FeatureExtractor",
    "FeatureSet",
    "GaussianStatistics",
    "Interval",
    "Metric",
    "Reference",
    "ReferenceStatistics",
    "block_interval",
    "block_values",
    "compute_metrics",
    "dataset_features",
    "frechet_distance",
    "load_extractor",
    "paired_difference_interval",
    "paired_ratio_interval",
]
