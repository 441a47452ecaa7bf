"""Real images as a reference: their features, and what a metric is between real and real (the floor)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.evaluation import FeatureSet, Reference, compute_metrics, dataset_features
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.frechet import SYMMETRIC_ROOT, ReferenceStatistics
from skiptune.evaluation.metrics import METRIC_NUMERICS
from skiptune.evaluation.sources import read_reference
from skiptune.runtime.claims import made_once
from skiptune.runtime.files import file_digest
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.provenance import provenance
from skiptune.runtime.seed_chunks import NUMERICS
from skiptune.runtime.store import Run, RunStore

FLOOR_BLOCKS = 20  # real images cost no sampling, so the floor can be known better than the rows


@dataclass(frozen=True)
class RealImages:
    """The first ``images`` of a data set's split ``reference``, seen through one feature extractor.

    Raises:
        SkiptuneError: fewer than 2 images, or more than the data set has.
    """

    dataset: str
    images: int
    features: ExtractorRef
    device: str

    available: ClassVar[frozenset[str]] = frozenset({"reference_features"})

    def __post_init__(self) -> None:
        if type(self.images) is not int or self.images < 2:
            raise SkiptuneError(f"reference_images is {self.images!r}, it must be 2 or more")
        if self.images > (size := load_dataset(self.dataset).size("reference")):
            raise SkiptuneError(f"reference_images is {self.images}, but {self.dataset} has only {size}")

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the reference, as plain values; the digest stands for the pixels."""
        return {
            "dataset": self.dataset,
            "digest": load_dataset(self.dataset).digest,
            "split": "reference",
            "images": self.images,
            "features": self.features.identity,
            "device": self.device,
        }

    def open(self, store: RunStore) -> Run:
        """The stored or new run that keeps the features."""
        return store.open({"kind": "reference", "numerics": NUMERICS, **self.identity})

    def extract(self, seeds: Sequence[int]) -> FeatureSet:
        """Features of these images of the split ``reference``."""
        extractor = cached_extractor(self.features, self.device)
        return dataset_features(extractor, load_dataset(self.dataset), seeds, "reference")

    def reference(self, store: RunStore) -> Reference:
        """Features and fitted Gaussian of the reference, extracted once per store."""
        run = self.open(store)

        def extract() -> None:
            real = self.extract(range(self.images))
            run.write_chunk(0, {"features": real.features, "logits": real.logits})

        made_once(run.chunk_path(0), extract)
        stored = run.read_chunk(0)
        return Reference.from_features(FeatureSet(stored["features"], stored["logits"]))


@dataclass(frozen=True)
class ReferenceFile:
    """Published statistics or features of real images, in any of the official formats.

    Raises:
        SkiptuneError: the file is missing.
    """

    path: Path
    hint: str

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise SkiptuneError(f"reference file {self.path} is missing; {self.hint}")

    @property
    def available(self) -> frozenset[str]:
        """What of a reference the file has."""
        return RealImages.available if cached_file(self).features is not None else frozenset()

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the reference: the contents, not the place."""
        return {"file": self.path.name, "sha256": file_digest(self.path)}

    def reference(self, store: RunStore) -> Reference:
        """The file's contents."""
        return cached_file(self)


@lru_cache(maxsize=4)
def cached_file(file: ReferenceFile) -> Reference:
    return read_reference(file.path)


@lru_cache(maxsize=4)
def cached_reference(real: RealImages | ReferenceFile, store: RunStore) -> Reference:
    """The reference with what is computed of it once (factors, balls, kernel sums).

    A factor that takes long is kept in the store, by the digest of the statistics.
    """
    reference = real.reference(store)
    if isinstance(reference.gaussian, ReferenceStatistics) and len(reference.gaussian.mean) > SYMMETRIC_ROOT:
        reference.gaussian.keep_factor(store.root / "factors")
    return reference


def default_reference_images(dataset: str) -> int:
    """10,000, or all images of a smaller data set."""
    return min(10_000, load_dataset(dataset).size("reference"))


def floor_identity(real: RealImages, block_size: int, metrics: Sequence[str]) -> dict[str, Any]:
    """What determines a floor: the reference, the number of images per block, the metrics."""
    return {
        "kind": "floor",
        "numerics": METRIC_NUMERICS,
        "reference": real.identity,
        "block_size": block_size,
        "blocks": FLOOR_BLOCKS,
        "metrics": sorted(metrics),
    }


def measure_floor(
    store: RunStore, real: RealImages, block_size: int, metrics: Sequence[str]
) -> dict[str, Any]:
    """The record of real against real at ``block_size`` images: about what a perfect model would reach.

    Blocks of real images that are not in the reference; of a finite data set, blocks drawn from the reference
    with replacement.
    """
    started, size = time.perf_counter(), load_dataset(real.dataset).size("reference")
    reference = cached_reference(real, store)
    values: dict[str, list[float]] = {name: [] for name in metrics}
    bounds = []
    for i in range(FLOOR_BLOCKS):
        first = real.images + i * block_size
        if first + block_size <= size:
            seeds: Sequence[int] = range(first, first + block_size)
            bounds.append([first, first + block_size - 1])
        else:
            seeds = np.random.default_rng(i).integers(real.images, size=block_size).tolist()
            bounds.append([0, real.images - 1])
        block = real.extract(seeds)
        for name, value in compute_metrics(metrics, block, reference).items():
            values[name].append(value)
    return {
        "run": real.open(store).id,
        "nfe": 0,
        "values": values,
        "seeds": bounds,
        "images_per_second": None,
        "seconds": time.perf_counter() - started,
        "provenance": provenance(real.device),
    }
