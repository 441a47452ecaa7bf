"""Metrics by name, each a function of the kept features of the sample and of the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skiptune.errors import SkiptuneError
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.statistics import GaussianStatistics


@dataclass(frozen=True)
class Reference:
    """The real images: the fitted Gaussian, and their features where a metric needs more than that."""

    gaussian: ReferenceStatistics
    features: FeatureSet | None = None

    @classmethod
    def from_features(cls, features: FeatureSet) -> Reference:
        """Reference of at least 2 real images."""
        gaussian = ReferenceStatistics.from_statistics(GaussianStatistics.from_features(features.features))
        return cls(gaussian, features)


@dataclass(frozen=True)
class Metric:
    """A number computed from the one feature pass, and whether lower or higher is better."""

    compute: Callable[[FeatureSet, Reference], float]
    lower_is_better: bool


def fid(sample: FeatureSet, reference: Reference) -> float:
    """Frechet distance between the Gaussians of sample and reference features."""
    return frechet_distance(GaussianStatistics.from_features(sample.features), reference.gaussian)


def accuracy(sample: FeatureSet, reference: Reference) -> float:
    """Share in [0, 1] of conditional samples that the extractor puts in the class asked for."""
    if sample.labels is None:
        raise SkiptuneError("accuracy needs the labels of the samples: use a class-conditional model")
    if len(sample) == 0:
        raise SkiptuneError("accuracy needs at least 1 image")
    return float((sample.logits.argmax(1) == sample.labels).double().mean())


METRICS: dict[str, Metric] = {
    "fid": Metric(fid, lower_is_better=True),
    "accuracy": Metric(accuracy, lower_is_better=False),
}


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises SkiptuneError, listing the known ones, if there is none."""
    if name not in METRICS:
        raise SkiptuneError(f"unknown metric '{name}': choose one of {', '.join(sorted(METRICS))}")
    return METRICS[name]


def compute_metrics(names: Sequence[str], sample: FeatureSet, reference: Reference) -> dict[str, float]:
    """Every named metric of the sample. Unknown names are refused before anything is computed."""
    metrics = {name: get_metric(name) for name in names}
    return {name: metric.compute(sample, reference) for name, metric in metrics.items()}


def block_values(name: str, sample: FeatureSet, reference: Reference, blocks: int) -> list[float]:
    """The metric of each of `blocks` equal, consecutive seed blocks: what the intervals are made from."""
    metric = get_metric(name)
    return [metric.compute(block, reference) for block in sample.blocks(blocks)]
