"""Metric arithmetic against clean-fid and torch-fidelity on the same features."""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cleanfid.fid import frechet_distance as cleanfid_distance
from torch import Tensor, from_numpy
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_part

from experiments.benchmarks.metric_cost import activations, added_memory, feature_set, in_new_process
from experiments.benchmarks.metric_images import FIVE, image_contestants, random_inception
from experiments.benchmarks.timing import alternate
from skiptune.evaluation import Reference, ReferenceStatistics, kid
from skiptune.evaluation.frechet import frechet_distance
from skiptune.evaluation.metrics import compute_metrics
from skiptune.evaluation.precision_recall import precision_recall
from skiptune.evaluation.statistics import fit_gaussian

Contests = dict[str, dict[str, Any]]
Statistics = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """Sizes of the contests: features per image, images, few of them, pictures for the network, repeats."""

    dimension: int = 2048
    images: int = 10_000
    few: int = 1_000
    pictures: int = 64
    repeats: int = 3

    def features(self) -> tuple[Tensor, Tensor]:
        """Generated and real ones, float32."""
        return activations(self.images, self.dimension, 1, 0.01), activations(self.images, self.dimension, 2)


def _numpy(features: Tensor) -> Statistics:
    f = features.double().numpy()
    return f.mean(0), np.cov(f, rowvar=False)


def _cleanfid(a: Statistics, b: Statistics) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its sqrtm(disp=...)
        return float(cleanfid_distance(*a, *b))


def _torch_fidelity(a: Statistics, b: Statistics) -> float:
    left, right = ({"mu": mean, "sigma": covariance} for mean, covariance in (a, b))
    return float(fid_statistics_to_metric(left, right, False)["frechet_inception_distance"])


def benchmark_fid(setup: Setup) -> Contests:
    """The distance alone, to the ready mean and covariance of the reference, as published files hold them.

    At full rank the sample's are ready too; of few images everybody has the features, as float64.
    `cached`: with the factor of the reference, as for every row of a table but the first.
    """
    images, few, dimension = setup.images, setup.few, setup.dimension
    full, small = activations(images, dimension, 1, 0.02), activations(few, dimension, 2, 0.02).double()
    a, b = _numpy(full), _numpy(activations(images, dimension, 3))

    def moments(side: Statistics) -> ReferenceStatistics:
        return ReferenceStatistics(*map(from_numpy, side))

    cached = moments(b)
    rows: dict[str, dict[str, Callable[[], float]]] = {
        f"FID, {images} images": {
            "ours": lambda: frechet_distance(moments(a), moments(b)),
            "ours, cached": lambda: frechet_distance(moments(a), cached),
            "torch-fidelity": lambda: _torch_fidelity(a, b),
            "clean-fid": lambda: _cleanfid(a, b),
        },
        f"FID, {few} images, from their features": {
            "ours": lambda: frechet_distance(fit_gaussian(small), moments(b)),
            "torch-fidelity": lambda: _torch_fidelity(_numpy(small), b),
            "clean-fid": lambda: _cleanfid(_numpy(small), b),
        },
    }
    return {name: contest(row, setup.repeats) for name, row in rows.items()}


def contest(contestants: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Any]:
    """What every contestant finds, its seconds, and how many times as fast ours are as each peer."""
    timings = alternate(contestants, 1, repeats, warm_up=False)
    return {
        "values": timings.outcomes,
        "seconds": {name: statistics.median(seconds) for name, seconds in timings.seconds.items()},
        "ratios": {
            f"{name} against {peer}": timings.ratio(name, peer)
            for name in contestants
            for peer in contestants
            if name.startswith("ours") and not peer.startswith("ours")
        },
    }


def _ours_precision_recall(generated: Tensor, real: Tensor) -> float:
    return precision_recall(generated, real).precision


def _peer_precision_recall(generated: Tensor, real: Tensor) -> float:
    return calculate_precision_recall_part(generated, real)[0]


def _peer_precision_recall_1000(generated: Tensor, real: Tensor) -> float:
    return calculate_precision_recall_part(generated, real, 3, 1000)[0]


PRECISION_RECALL: dict[str, Callable[[Tensor, Tensor], float]] = {
    "ours": _ours_precision_recall,
    "torch-fidelity": _peer_precision_recall,
    "torch-fidelity, batch 1000": _peer_precision_recall_1000,
}


def benchmark_precision_recall(setup: Setup) -> Contests:
    """Precision and recall, k = 3, with the memory that each takes on top of the features."""
    generated, real = setup.features()
    runs = {name: partial(run, generated, real) for name, run in PRECISION_RECALL.items()}
    report = contest(runs, setup.repeats)
    report["memory_gib"] = {
        name: in_new_process(_precision_recall_memory, name, setup.images, setup.dimension) for name in runs
    }
    return {f"precision and recall, {setup.images} images": report}


def _precision_recall_memory(name: str, images: int, dimension: int) -> float:
    generated, real = activations(images, dimension, 1, 0.01), activations(images, dimension, 2)
    return added_memory(lambda: PRECISION_RECALL[name](generated, real))[0]


def benchmark_kid(setup: Setup) -> Contests:
    """KID of 100 subsets of 1000 images; theirs computes in the precision of the features, float32."""
    generated, real = setup.features()
    wide, other = generated.double(), real.double()
    size = min(1000, setup.images)
    runs: dict[str, Callable[[], float]] = {
        "ours": lambda: kid(generated, real, subset_size=size).mean,
        "ours, float64": lambda: kid(wide, other, subset_size=size).mean,
        "torch-fidelity": lambda: _peer_kid(generated, real, size),
        "torch-fidelity, float64": lambda: _peer_kid(wide, other, size),
    }
    return {f"KID, {setup.images} images": contest(runs, setup.repeats)}


def _peer_kid(generated: Tensor, real: Tensor, size: int) -> float:
    found = kid_features_to_metric(generated, real, kid_subset_size=size, verbose=False)
    return float(found["kernel_inception_distance_mean"])


def benchmark_five(setup: Setup) -> Contests:
    """FID, IS, precision, recall and KID (their sum) from kept features, against torch-fidelity's."""
    sample, real = (feature_set(setup.images, setup.dimension, *side) for side in ((1, 0.01), (2, 0.0)))

    def ours() -> float:
        return sum(compute_metrics(FIVE, sample, Reference.from_features(real)).values())

    def peer() -> float:
        x, y = sample.features, real.features
        fid = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
        score = isc_features_to_metric(sample.logits)["inception_score_mean"]
        found = fid["frechet_inception_distance"] + _peer_kid(x, y, min(1000, setup.images))
        return float(found + score + sum(calculate_precision_recall_part(x, y)))

    contestants = {"ours": ours, "torch-fidelity": peer}
    return {f"five metrics of features, {setup.images} images": contest(contestants, setup.repeats)}


def benchmark_images(setup: Setup) -> Contests:
    """The same five from pictures: one pass through the network against one run per metric."""
    with tempfile.TemporaryDirectory() as folder:
        contestants = image_contestants(setup.pictures, random_inception(Path(folder)))
        return {
            f"five metrics of images, {setup.pictures} images, Inception included": contest(
                contestants, setup.repeats
            )
        }
