"""Metric arithmetic against clean-fid and torch-fidelity on the same features, and its growth with N."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from cleanfid.fid import frechet_distance as cleanfid_distance
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_part

from experiments.benchmarks.metric_cost import (
    CURVE_METRICS,
    CURVE_SIZES,
    activations,
    added_memory,
    benchmark_growth,
    feature_set,
    in_new_process,
)
from experiments.benchmarks.sampling import spread
from experiments.benchmarks.timing import Timings, alternate
from skiptune.evaluation import GaussianStatistics, Reference, ReferenceStatistics
from skiptune.evaluation.frechet import frechet_distance
from skiptune.evaluation.metrics import compute_metrics
from skiptune.evaluation.precision_recall import precision_recall
from skiptune.evaluation.statistics import fit_gaussian
from skiptune.runtime.provenance import provenance

FIVE = ("fid", "is", "precision", "recall", "kid")
Statistics = tuple[np.ndarray, np.ndarray]


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


def benchmark_fid(images: int, few: int, dimension: int, repeats: int) -> dict[str, Any]:
    """The distance alone: at full rank from ready statistics, for few images from their features.

    `cached`: with the factor of the reference, as for every row of a table but the first.
    """
    full, small = activations(images, dimension, 1, 0.02), activations(few, dimension, 2, 0.02)
    real = activations(images, dimension, 3)
    ours, moments = GaussianStatistics.from_features(full), GaussianStatistics.from_features(real)
    cached = ReferenceStatistics.from_statistics(moments)
    full_rank, low_rank, theirs = _numpy(full), _numpy(small), _numpy(real)

    def fresh() -> ReferenceStatistics:
        return ReferenceStatistics.from_statistics(moments)

    rows: dict[str, dict[str, Callable[[], float]]] = {
        f"FID, {images} images": {
            "ours": lambda: frechet_distance(ours, fresh()),
            "ours, cached": lambda: frechet_distance(ours, cached),
            "torch-fidelity": lambda: _torch_fidelity(full_rank, theirs),
            "clean-fid": lambda: _cleanfid(full_rank, theirs),
        },
        f"FID, {few} images": {
            "ours": lambda: frechet_distance(fit_gaussian(small), fresh()),
            "ours, cached": lambda: frechet_distance(fit_gaussian(small), cached),
            "torch-fidelity": lambda: _torch_fidelity(low_rank, theirs),
            "clean-fid": lambda: _cleanfid(low_rank, theirs),
        },
    }
    return {name: contest(row, images, repeats) for name, row in rows.items()}


def contest(contestants: Mapping[str, Callable[[], float]], images: int, repeats: int) -> dict[str, Any]:
    """Seconds of every contestant, how many times as fast ours are as each peer, and how they differ."""
    values = {name: run() for name, run in contestants.items()}
    timings = alternate(contestants, images, repeats)
    return {
        "values": values,
        "seconds": _medians(timings),
        "ratios": {
            f"{name} against {peer}": timings.ratio(name, peer)
            for name in contestants
            for peer in contestants
            if name.startswith("ours") and not peer.startswith("ours")
        },
    }


def _medians(timings: Timings) -> dict[str, float]:
    return {name: float(np.median(seconds)) for name, seconds in timings.seconds.items()}


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


def benchmark_precision_recall(images: int, dimension: int, repeats: int) -> dict[str, Any]:
    """Precision and recall, k = 3, with the memory that each takes on top of the features."""
    generated, real = activations(images, dimension, 1, 0.01), activations(images, dimension, 2)
    runs = {name: partial(run, generated, real) for name, run in PRECISION_RECALL.items()}
    report = contest(runs, images, repeats)
    report["memory_gib"] = {
        name: in_new_process(_precision_recall_memory, name, images, dimension) for name in runs
    }
    return report


def _precision_recall_memory(name: str, images: int, dimension: int) -> float:
    generated, real = activations(images, dimension, 1, 0.01), activations(images, dimension, 2)
    return added_memory(lambda: PRECISION_RECALL[name](generated, real))[0]


def benchmark_five(images: int, dimension: int, repeats: int) -> dict[str, Any]:
    """FID, IS, precision, recall and KID from kept features, against the same five of torch-fidelity."""
    sample, real = feature_set(images, dimension, 1, 0.01), feature_set(images, dimension, 2)
    subset = min(1000, images)

    def ours() -> float:
        return sum(compute_metrics(FIVE, sample, Reference.from_features(real)).values())

    def peer() -> float:
        x, y = sample.features, real.features
        fid = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
        kid = kid_features_to_metric(x, y, kid_subset_size=subset, verbose=False)
        precision, recall = calculate_precision_recall_part(x, y)
        score = isc_features_to_metric(sample.logits)["inception_score_mean"]
        found = fid["frechet_inception_distance"], kid["kernel_inception_distance_mean"]
        return float(sum(found) + score + precision + recall)

    return contest({"ours": ours, "torch-fidelity": peer}, images, repeats)


def benchmark_metrics(
    dimension: int = 2048,
    images: int = 10_000,
    few: int = 1_000,
    repeats: int = 3,
    sizes: tuple[int, ...] = CURVE_SIZES,
) -> dict[str, Any]:
    """All contests and the growth, as a plain report with its provenance."""
    contests = benchmark_fid(images, few, dimension, repeats)
    contests[f"precision and recall, {images} images"] = benchmark_precision_recall(
        images, dimension, repeats
    )
    contests[f"five metrics, {images} images"] = benchmark_five(images, dimension, repeats)
    return {
        "dimension": dimension,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "provenance": provenance("cpu"),
        "contests": contests,
        "growth": benchmark_growth(sizes, dimension),
    }


def render_metrics(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    where = report["provenance"]
    lines = [
        "# Metric arithmetic",
        "",
        f"Features of {report['dimension']} dimensions; device: {where['device']}, threads: "
        f"{report['threads']}; torch {where['packages'].get('torch')}; commit {where['commit'][:12]}; "
        f"median of {report['repeats']} alternating repeats [lowest, highest].",
        "",
        "| what | who | seconds | value | times as fast as | added GiB |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    for name, part in report["contests"].items():
        for who, seconds in part["seconds"].items():
            ratios = [
                f"{peer} {spread(part['ratios'][f'{who} against {peer}'])}"
                for peer in part["seconds"]
                if f"{who} against {peer}" in part["ratios"]
            ]
            memory = part.get("memory_gib", {}).get(who)
            lines.append(
                f"| {name} | {who} | {seconds:.3g} | {part['values'][who]:.9g} | {'; '.join(ratios)} | "
                f"{'' if memory is None else f'{memory:.2f}'} |"
            )
    lines += ["", "| metric | images | seconds | added GiB |", "| --- | ---: | ---: | ---: |"]
    for metric, points in report["growth"].items():
        for point in points:
            cost = f"{point['seconds']:.3g} | {point['gib']:.2f}"
            lines.append(f"| {CURVE_METRICS[metric]} | {point['images']} | {cost} |")
    return "\n".join(lines) + "\n"
