"""What a metric costs as the number of images grows: time, and memory on top of the features."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from skiptune.evaluation import FeatureSet, Reference
from skiptune.evaluation.metrics import compute_metrics

CURVE_METRICS = {
    "fid": "FID",
    "is": "IS",
    "precision_recall": "precision, recall",
    "kid": "KID",
    "mmd": "MMD",
}
CURVE_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
CLASSES = 1008  # logits of the Inception network of 2015


@cache
def _mixing(dimension: int) -> Tensor:
    mixing = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(0))
    return mixing * torch.exp(-torch.linspace(0, 4, dimension))[:, None] / math.sqrt(dimension)


def activations(images: int, dimension: int, seed: int, shift: float = 0.0) -> Tensor:
    """float32 [images, dimension], not negative, correlated, of full rank with a decaying spectrum.

    Made in blocks, so that nothing but the result is ever held.
    """
    generator = torch.Generator().manual_seed(seed)
    features = torch.empty(images, dimension)
    for rows in features.split(1000):
        noise = torch.randn(len(rows), dimension, generator=generator)
        rows.copy_((noise @ _mixing(dimension)).relu_().add_(shift))
    return features


def feature_set(images: int, dimension: int, seed: int, shift: float = 0.0) -> FeatureSet:
    """Such features with logits of 1008 classes."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return FeatureSet(
        activations(images, dimension, seed, shift), torch.randn(images, CLASSES, generator=generator)
    )


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's value from a process of its own, whose peak of memory nothing else has raised."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def added_memory(run: Callable[[], object]) -> tuple[float, float]:
    """GiB by which the process's peak rises during the run, and the seconds that it takes."""
    before, started = _peak(), time.perf_counter()
    run()
    return _peak() - before, time.perf_counter() - started


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def cost(metric: str, images: int, dimension: int) -> dict[str, float]:
    """Seconds and added GiB of one metric of `images` against as many, references' own parts included."""
    sample, real = feature_set(images, dimension, 1, 0.01), feature_set(images, dimension, 2)
    compute_metrics([metric], feature_set(100, 16, 1), Reference.from_features(feature_set(100, 16, 2)))
    memory, seconds = added_memory(lambda: compute_metrics([metric], sample, Reference.from_features(real)))
    return {"images": images, "seconds": seconds, "gib": memory}


def benchmark_growth(sizes: tuple[int, ...], dimension: int) -> dict[str, list[dict[str, float]]]:
    """Cost of every metric at every size, each in a new process."""
    return {
        metric: [in_new_process(cost, metric, images, dimension) for images in sizes]
        for metric in CURVE_METRICS
    }


def plot_growth(report: dict[str, Any], path: Path) -> None:
    """Time and added memory of every metric against the number of images, as PNG."""
    figure = Figure(figsize=(8, 3.4), dpi=200, layout="constrained")
    panels = figure.subplots(1, 2)
    for metric, marker in zip(report["growth"], "osD^v", strict=True):
        points = report["growth"][metric]
        images = [point["images"] for point in points]
        panels[0].plot(
            images, [point["seconds"] for point in points], marker=marker, label=CURVE_METRICS[metric]
        )
        panels[1].plot(images, [point["gib"] for point in points], marker=marker, label=CURVE_METRICS[metric])
    panels[0].set(xscale="log", yscale="log", xlabel="images against as many", ylabel="seconds")
    panels[1].set(xscale="log", xlabel="images against as many", ylabel="GiB on top of the features")
    panels[1].axhline(2, color="0.5", linestyle=":", linewidth=1)
    panels[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
