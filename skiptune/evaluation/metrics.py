"""Metrics by name, each a function of the kept features of the sample and of the reference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import ALONE, Team
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.fid_infinity import fid_infinity
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.inception_score import inception_score
from skiptune.evaluation.kernels import KERNELS, MedianDistance, make_kernel
from skiptune.evaluation.kid import SUBSET_SIZE, kid
from skiptune.evaluation.mmd import CMMD_KERNEL, CMMD_SCALE, KernelSums, cmmd, mmd, within
from skiptune.evaluation.precision_recall import Manifold, precision_recall
from skiptune.evaluation.statistics import GaussianStatistics, LowRankGaussian, fit_gaussian

# Raise it whenever the code changes a bit of a metric: records are then made anew from the kept features.
METRIC_NUMERICS = 3

log = logging.getLogger(__name__)
T = TypeVar("T")

# What a metric may need besides the features of the sample, and what to say without it.
NEEDS = {
    "labels": "the labels of the samples: use a class-conditional model",
    "logits": "the logits of the samples: use a classifier, or a file with an array 'logits'",
    "reference_features": "the features of the reference images: its mean and covariance are not enough",
}


@dataclass(frozen=True)
class Reference:
    """The real images: the fitted Gaussian, and their features where a metric needs more than that.

    What depends on the reference alone (its balls, its kernel sums) is computed once and kept with it.
    """

    gaussian: ReferenceStatistics | LowRankGaussian
    features: FeatureSet | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_features(cls, features: FeatureSet) -> Reference:
        """Reference of at least 2 real images."""
        gaussian = fit_gaussian(features.features)
        if isinstance(gaussian, GaussianStatistics):
            return cls(ReferenceStatistics.from_statistics(gaussian), features)
        return cls(gaussian, features)

    def images(self, metric: str) -> FeatureSet:
        """The features. Raises SkiptuneError, naming the metric, if there are only statistics."""
        if self.features is None:
            raise SkiptuneError(f"{metric} needs {NEEDS['reference_features']}")
        return self.features

    def keep(self, what: Any, compute: Callable[[], T]) -> T:
        """The value computed at the first call for `what`."""
        if what not in self._kept:
            self._kept[what] = compute()
        value: T = self._kept[what]
        return value


Family = Callable[[FeatureSet, Reference, Sequence[str], Team], Mapping[str, float]]


@dataclass(frozen=True)
class Metric:
    """One number of a `family`, which computes those of the given keys together.

    A family takes (sample, reference, keys, team) and gives all processes of the team the same numbers.
    `needs`: keys of NEEDS that the metric cannot do without, checked before anything is sampled.
    """

    family: Family
    key: str
    lower_is_better: bool
    needs: frozenset[str] = frozenset()

    def compute(self, sample: FeatureSet, reference: Reference) -> float:
        """The metric alone. Raises SkiptuneError if the images do not allow it."""
        return self.family(sample, reference, [self.key], ALONE)[self.key]


@lru_cache(maxsize=64)
def _warn_singular(images: int, features: int) -> None:
    log.warning(
        "FID of %d images with %d features: the covariance is singular and the value far too high; "
        "compare it only with values of as many images",
        images,
        features,
    )


def _fid(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    n, d = sample.features.shape
    if n <= d:
        _warn_singular(n, d)
    return {"fid": frechet_distance(fit_gaussian(sample.features), reference.gaussian)}


def _fid_inf(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    return {"fid_inf": fid_infinity(sample.features, reference.gaussian)}


def _accuracy(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    """Share in [0, 1] of conditional samples that the extractor puts in the class asked for."""
    _require_logits(sample, "accuracy")
    if sample.labels is None:
        raise SkiptuneError(f"accuracy needs {NEEDS['labels']}")
    if len(sample) == 0:
        raise SkiptuneError("accuracy needs at least 1 image")
    return {"accuracy": float((sample.logits.argmax(1) == sample.labels).double().mean())}


def _inception_score(
    sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team
) -> dict[str, float]:
    _require_logits(sample, "is")
    return {"is": inception_score(sample.logits).mean}


def _precision_recall(
    sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team
) -> dict[str, float]:
    real = reference.images(keys[0]).features
    balls = reference.keep("manifold", lambda: Manifold.of(real, team=team))
    value = precision_recall(sample.features, balls, team=team)
    return {"precision": value.precision, "recall": value.recall}


def _kid(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    real = reference.images("kid").features
    # Subsets of fewer images where there are fewer: clean-fid's rule.
    size = min(SUBSET_SIZE, len(sample), len(real))
    return {"kid": kid(sample.features, real, subset_size=size, team=team).mean}


def _mmd(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    """Unbiased MMD^2, one pass over the sample for all kernels; the reference's own sums are kept."""
    real = reference.images("mmd").features
    median = reference.keep("median", lambda: MedianDistance(real))
    kernels = reference.keep(("kernels", *keys), lambda: [make_kernel(name, median) for name in keys])
    sums: KernelSums = reference.keep(("sums", *keys), lambda: within(real, kernels, team=team))
    values = mmd(sample.features, real, kernels, team=team, y_sums=sums)
    return {name: value.unbiased for name, value in zip(keys, values, strict=True)}


def _immd(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    real = reference.images("immd").features
    sums = reference.keep("immd sums", lambda: within(real, [CMMD_KERNEL], team=team))
    value = mmd(sample.features, real, [CMMD_KERNEL], team=team, y_sums=sums)[0]
    return {"immd": CMMD_SCALE * value.unbiased}


def _cmmd(sample: FeatureSet, reference: Reference, keys: Sequence[str], team: Team) -> dict[str, float]:
    return {"cmmd": cmmd(sample.features, reference.images("cmmd").features, team=team)}


def _require_logits(sample: FeatureSet, metric: str) -> None:
    if sample.logits.shape[1] == 0:
        raise SkiptuneError(f"{metric} needs {NEEDS['logits']}")


_REAL = frozenset({"reference_features"})
_DEFAULT_KERNEL = "rbf_median"

METRICS: dict[str, Metric] = {
    "fid": Metric(_fid, "fid", True),
    "fid_inf": Metric(_fid_inf, "fid_inf", True),
    "is": Metric(_inception_score, "is", False, frozenset({"logits"})),
    "precision": Metric(_precision_recall, "precision", False, _REAL),
    "recall": Metric(_precision_recall, "recall", False, _REAL),
    "kid": Metric(_kid, "kid", True, _REAL),
    "mmd": Metric(_mmd, _DEFAULT_KERNEL, True, _REAL),
    "immd": Metric(_immd, "immd", True, _REAL),  # MMD in Inception features with CMMD's kernel and scale
    "cmmd": Metric(_cmmd, "cmmd", True, _REAL),
    "accuracy": Metric(_accuracy, "accuracy", False, frozenset({"labels", "logits"})),
    **{f"mmd_{kernel}": Metric(_mmd, kernel, True, _REAL) for kernel in KERNELS},
}

# Families whose blocks the processes of a team divide; of the others every process takes some whole.
DIVIDED: frozenset[Family] = frozenset({_precision_recall, _kid, _mmd, _immd, _cmmd})

# Names for several metrics at once.
GROUPS: dict[str, tuple[str, ...]] = {"precision_recall": ("precision", "recall")}


def get_metric(name: str) -> Metric:
    """The metric of that name. Raises SkiptuneError, listing the known ones, if there is none."""
    if name not in METRICS:
        raise SkiptuneError(
            f"unknown metric '{name}': choose one of {', '.join(sorted({*METRICS, *GROUPS}))}"
        )
    return METRICS[name]


def expand(names: Sequence[str]) -> list[str]:
    """The names with groups replaced by their members, each once. Raises SkiptuneError for unknown ones."""
    members = [member for name in names for member in GROUPS.get(name, (name,))]
    for name in members:
        get_metric(name)
    return list(dict.fromkeys(members))


def check_metrics(names: Sequence[str], available: Collection[str]) -> None:
    """Raises SkiptuneError for an unknown metric, or one that needs what is not `available` (keys of NEEDS).

    To be called before anything is sampled.
    """
    for name in expand(names):
        for need in sorted(get_metric(name).needs):
            if need not in available:
                raise SkiptuneError(f"{name} needs {NEEDS[need]}")


def compute_metrics(
    names: Sequence[str], sample: FeatureSet, reference: Reference, team: Team = ALONE
) -> dict[str, float]:
    """Every named metric of the sample, those of one family together (groups become their members).

    The processes of a `team` hold the same features, make the same call, and get the same values, whose bits
    do not depend on their number. Unknown names are refused before anything is computed.
    """
    names = expand(names)
    families: dict[Family, list[str]] = {}
    for name in names:
        families.setdefault(get_metric(name).family, []).append(name)
    values = torch.zeros(len(names), dtype=torch.float64)  # of this process: every metric in one of them
    for number, (family, members) in enumerate(families.items()):
        own = number % team.size == team.rank
        if own or family in DIVIDED:
            keys = list(dict.fromkeys(get_metric(name).key for name in members))
            found = family(sample, reference, keys, team)
            for name in members if own else ():
                values[names.index(name)] = found[get_metric(name).key]
    return dict(zip(names, team.total(values).tolist(), strict=True))


def block_values(name: str, sample: FeatureSet, reference: Reference, blocks: int) -> list[float]:
    """The metric of each of `blocks` equal, consecutive seed blocks: what the intervals are made from."""
    metric = get_metric(name)
    return [metric.compute(block, reference) for block in sample.blocks(blocks)]
