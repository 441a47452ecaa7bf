"""One pass over images, kept: chunks in the run store, split over processes, never computed twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from skiptune.evaluation.extractors import ExtractorRef, FeatureExtractor
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.sources.images import ImageSource, with_channels
from skiptune.runtime.distributed import barrier
from skiptune.runtime.filling import fill
from skiptune.runtime.precision import in_precision
from skiptune.runtime.provenance import device as usable_device
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, SeedChunk, SeedRun, open_run
from skiptune.runtime.shared_chunks import SharedChunk
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers


@dataclass(frozen=True)
class ImageFeatures:
    """The run that holds features, logits and labels of a source's images.

    It is named by the digests of images and extractor, not by place or number: another metric, another
    number of images or the same pictures elsewhere extract nothing again.
    """

    source: ImageSource
    extractor: ExtractorRef
    device: str = "cpu"

    def resolved(self) -> dict[str, Any]:
        """What names the run. Raises SkiptuneError if the images cannot be read."""
        return {
            "kind": "image_features",
            "numerics": NUMERICS,
            "images": self.source.identity,
            "features": self.extractor.identity,
            "chunk": CHUNK,
            "device": self.device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """features [n, d], logits [n, K] and, with classes, labels [n] of the images with these numbers."""
        images, labels = self.source.read(seeds)
        extractor = _extractor(self.extractor, self.device)
        with in_precision("fp32", self.device):
            outputs = extractor(with_channels(images, extractor.image_shape))
        return outputs if labels is None else {**outputs, "labels": labels}

    def read(self, count: int, store: RunStore, workers: Workers, label: str) -> FeatureSet:
        """Of the first `count` images; what is missing is computed (see ``complete``)."""
        return FeatureSet(**complete(self, count, store, workers, label))


@lru_cache(maxsize=2)
def _extractor(ref: ExtractorRef, device: str) -> FeatureExtractor:
    return ref.load(usable_device(device))


def complete(run: SeedRun, count: int, store: RunStore, workers: Workers, label: str) -> dict[str, Tensor]:
    """The tensors of a run's first `count` images; chunks that are not in the store are computed first.

    A killed call goes on with the missing chunks. Under torchrun every process computes a share and all
    return the same. Raises SkiptuneError as the run does, or if the store cannot be written.
    """
    stored = open_run(run, store)
    numbers = range(-(-count // CHUNK))
    fill([SharedChunk((SeedChunk(stored, run, i),)) for i in numbers], store, workers, label, count)
    barrier()
    chunks = [stored.read_chunk(i) for i in numbers]
    return {name: torch.cat([chunk[name] for chunk in chunks])[:count] for name in chunks[0]}
