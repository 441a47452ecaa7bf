"""Features of what is compared, from ready files or from images, which one extractor sees once each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from skiptune.evaluation.extractors import EXTRACTORS, ExtractorRef, extractor_digest
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.metrics import Reference
from skiptune.evaluation.sources.arrays import FEATURES, NPZ, array_names, read_features
from skiptune.evaluation.sources.choice import Given
from skiptune.evaluation.sources.images import ImageSource
from skiptune.evaluation.sources.passes import ImageFeatures
from skiptune.evaluation.sources.references import read_reference
from skiptune.runtime.distributed import world
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, default_workers


@dataclass
class Reader:
    """Reads and extracts; ``seen`` lists the images that were looked at.

    Attributes:
        extractor: its name; `weights`: its file, None for the official one in `checkpoints`; `sha256`: whole
            or leading digits that the file must have.
        store: where features are kept.
        processes: `auto` for one a core.
        device: `cpu` or `cuda`.
    """

    extractor: str
    weights: Path | None
    sha256: str | None
    checkpoints: Path
    store: RunStore
    processes: int | Literal["auto"]
    device: str
    seen: list[ImageSource] = field(default_factory=list)

    def features(self, given: Given, images: int | None) -> FeatureSet:
        """Of a file, or of the first `images` of a source, each extracted once. Raises SkiptuneError."""
        if isinstance(given, Path):
            return read_features(given)
        count = given.count(images)
        self.seen.append(given)
        run = ImageFeatures(given, self.network(), self.device)
        with self.workers(count) as workers:
            return run.read(count, self.store, workers, f"features of {Path(given.place).name}")

    def reference(
        self, real: Given, images: int | None, features_needed: bool, inside: ImageSource, meant: bool
    ) -> Reference:
        """What is there of the reference: features, else statistics, of ADM's batches both.

        Args:
            images: the first so many of the reference's images; None: all.
            features_needed: a metric needs them, statistics alone are not enough.
            inside: the images that an npz file holds, should it hold any.
            meant: they may be all that there is, not only what lies beside statistics.
        """
        if isinstance(real, ImageSource):
            return Reference.from_features(self.features(real, images))
        names = array_names(real)
        if meant and real.suffix == NPZ and not {*FEATURES, "mu"} & set(names):
            return Reference.from_features(self.features(inside, images))
        reference = read_reference(real)
        if features_needed and reference.features is None and "arr_0" in names:
            return Reference(reference.gaussian, self.features(inside, images))
        return reference

    def network(self) -> ExtractorRef:
        """The extractor's name, digest and file. Raises SkiptuneError if it is missing or another."""
        name = self.extractor
        if name not in EXTRACTORS:
            return ExtractorRef(name, extractor_digest(name, weights=self.weights))
        found = extractor_digest(name, self.checkpoints, weights=self.weights, sha256=self.sha256)
        return ExtractorRef(name, found, self.weights or self.checkpoints / EXTRACTORS[name].weights.file)

    def workers(self, images: int) -> Workers:
        """As many processes as cores; one for a single chunk, for a GPU, or where torchrun makes them."""
        if self.processes != "auto":
            return Workers(self.processes)
        single = self.device == "cuda" or world().size > 1
        return Workers(1 if single else min(default_workers(), -(-images // CHUNK)))
