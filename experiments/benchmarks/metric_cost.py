"""What a metric costs as the number of images grows: time, and memory on top of the features."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
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

# What is drawn, by key: its label and the metrics that are computed together for it.
CURVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fid": ("FID", ("fid",)),
    "is": ("IS", ("is",)),
    "precision_recall": ("precision, recall", ("precision_recall",)),
    "kid": ("KID", ("kid",)),
    "mmd": ("MMD, 3 kernels", ("mmd_rbf_median", "mmd_energy", "mmd_polynomial_3")),
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
    """GiB that the run takes at most, above what the process holds before it, and its seconds (Linux)."""
    gc.collect()  # what is freed meanwhile would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is held now
    before, started = _status("VmRSS"), time.perf_counter()
    run()
    return max(0.0, _status("VmHWM") - before), time.perf_counter() - started


def _status(key: str) -> float:
    # Not getrusage: its peak is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def cost(curve: str, images: int, dimension: int) -> dict[str, float]:
    """Seconds and added GiB of a curve's metrics, `images` against as many, the reference's own parts too."""
    names = CURVES[curve][1]
    sample, real = feature_set(images, dimension, 1, 0.01), feature_set(images, dimension, 2)
    compute_metrics(names, feature_set(100, 16, 1), Reference.from_features(feature_set(100, 16, 2)))
    memory, seconds = added_memory(lambda: compute_metrics(names, sample, Reference.from_features(real)))
    return {"images": images, "seconds": seconds, "gib": memory}


def growth(curve: str, sizes: Sequence[int], dimension: int) -> list[dict[str, float]]:
    """Cost of one curve at every size, each in a new process."""
    return [in_new_process(cost, curve, images, dimension) for images in sizes]


def plot_growth(curves: Mapping[str, Sequence[Mapping[str, float]]], dimension: int, path: Path) -> None:
    """Time and added memory of every curve against the number of images, as PNG."""
    figure = Figure(figsize=(8, 3.6), dpi=200, layout="constrained")
    panels = figure.subplots(1, 2)
    for key, marker in zip(CURVES, "osD^v", strict=True):
        points = curves.get(key, [])
        images = [point["images"] for point in points]
        for panel, what in zip(panels, ("seconds", "gib"), strict=True):
            panel.plot(images, [point[what] for point in points], marker=marker, label=CURVES[key][0])
    for panel, what in zip(panels, ("seconds", "GiB on top of the features"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="generated images, and as many real ones", ylabel=what)
        panel.set_xticks(CURVE_SIZES, [f"{size // 1000}k" for size in CURVE_SIZES])
        panel.minorticks_off()
        panel.grid(color="0.9")
    panels[1].axhline(2, color="0.4", linestyle=":")
    panels[1].set_ylim(top=4)
    panels[1].annotate(
        "limit: 2 GiB", (CURVE_SIZES[0], 2), xytext=(0, 3), textcoords="offset points", fontsize=8
    )
    figure.suptitle(f"Cost of the metrics, {dimension} features per image", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
