"""Feature extractors, all through one door: the desk classifiers, and the papers' networks from local files.

A further one is a `PretrainedNetwork` subclass (weights' file, preprocessing, body) under a name:

    EXTRACTORS["mine"] = MyNetwork
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors.base import FeatureExtractor
from skiptune.evaluation.extractors.clip import ClipImageTower, ClipViTL14
from skiptune.evaluation.extractors.desk import (
    DESK_EXTRACTORS,
    MICRO_BATCH,
    desk_image_shape,
    desk_weights,
    load_desk_extractor,
)
from skiptune.evaluation.extractors.inception import NVIDIA_REFUSED, CleanInceptionV3, InceptionV3
from skiptune.evaluation.extractors.pretrained import (
    OfficialWeights,
    PretrainedNetwork,
    load_pretrained,
    verified_weights,
)
from skiptune.evaluation.extractors.resnet import ResNet101
from skiptune.evaluation.features import FeatureSet

if TYPE_CHECKING:
    from skiptune.data import Dataset

__all__ = [
    "DESK_EXTRACTORS",
    "EXTRACTORS",
    "ClipImageTower",
    "ExtractorRef",
    "FeatureExtractor",
    "OfficialWeights",
    "PretrainedNetwork",
    "dataset_features",
    "extractor_digest",
    "load_extractor",
]

CHECKPOINTS = Path("checkpoints")

EXTRACTORS: dict[str, type[PretrainedNetwork]] = {
    "inception_v3": InceptionV3,
    "clean_inception_v3": CleanInceptionV3,
    "resnet101": ResNet101,
    "clip_vitl14_336": ClipViTL14,
}


def load_extractor(
    name: str,
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    micro_batch: int | None = None,
    *,
    weights: Path | None = None,
    sha256: str | None = None,
) -> FeatureExtractor:
    """The extractor of that name; nothing is ever downloaded here.

    Args:
        folder: where its file lies: the package's desk folder, or `checkpoints` for those of `EXTRACTORS`.
        weights: another file in the official format, for those of `EXTRACTORS`; it is checked against
            `sha256` (whole or leading digits) if that is given, and named by its own digest in any case.

    Raises:
        SkiptuneError: no such extractor, or its file or a package it needs is missing, damaged or another.
    """
    network = _pretrained(name, weights)
    if network is None:
        desk = DESK_FOLDER if folder is None else folder
        return load_desk_extractor(name, desk, device, MICRO_BATCH if micro_batch is None else micro_batch)
    path, expected = _file(network, folder, weights, sha256)
    return load_pretrained(name, network, path, expected, device, micro_batch)


def extractor_digest(
    name: str, folder: Path | None = None, *, weights: Path | None = None, sha256: str | None = None
) -> str:
    """The `digest` that `load_extractor` would give, without building the network. Raises SkiptuneError."""
    network = _pretrained(name, weights)
    if network is None:
        return desk_weights(name, DESK_FOLDER if folder is None else folder)[1]
    path, expected = _file(network, folder, weights, sha256)
    return verified_weights(f"extractor '{name}'", path, network.weights.entry, expected)


@dataclass(frozen=True)
class ExtractorRef:
    """An extractor that is there: what a run is named by (``identity``) and where its file lies.

    Attributes:
        weights: its file in ``checkpoints``; None for the shipped ones.
    """

    name: str
    sha256: str
    weights: Path | None = None

    @classmethod
    def resolve(cls, features: Mapping[str, Any], checkpoints: Path = CHECKPOINTS) -> ExtractorRef:
        """Of a features configuration ``{"name", "kind"[, "file", "sha256"]}``; nothing is loaded yet.

        Raises:
            SkiptuneError: no such extractor, its file is missing or has another sha256.
        """
        if features["kind"] == "desk":
            return cls(features["name"], extractor_digest(features["name"]))
        path = checkpoints / features["file"]
        sha256 = extractor_digest(features["name"], weights=path, sha256=features.get("sha256"))
        return cls(features["name"], sha256, path)

    @property
    def identity(self) -> dict[str, str]:
        """What determines the features; the path does not."""
        return {"name": self.name, "sha256": self.sha256}

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` of the images that it takes; None: RGB images of any size."""
        return desk_image_shape(self.name, DESK_FOLDER) if self.weights is None else None

    def load(self, device: str | torch.device = "cpu") -> FeatureExtractor:
        """The extractor. Raises SkiptuneError if its file changed since it was resolved."""
        extractor = load_extractor(self.name, device=device, weights=self.weights)
        if extractor.digest != self.sha256:
            raise SkiptuneError(
                f"the weights of extractor {self.name} changed while the run was going on; start again"
            )
        return extractor


def dataset_features(
    extractor: FeatureExtractor, dataset: Dataset, seeds: Sequence[int] | range, split: str
) -> FeatureSet:
    """Features, logits and labels of a data set's images: the reference of the metrics."""
    step = 4 * extractor.micro_batch  # bounds the memory that the rendered images take
    parts = []
    for start in range(0, len(seeds), step):
        images, labels = dataset.batch(seeds[start : start + step], split)
        parts.append(FeatureSet(**extractor(images), labels=labels))
    return FeatureSet.cat(parts)


def _pretrained(name: str, weights: Path | None) -> type[PretrainedNetwork] | None:
    if name == "inception_v3_nvidia":
        raise SkiptuneError(NVIDIA_REFUSED)
    network = EXTRACTORS.get(name)
    if network is None and weights is not None:
        raise SkiptuneError(f"no extractor '{name}' takes a file: choose one of {', '.join(EXTRACTORS)}")
    return network


def _file(
    network: type[PretrainedNetwork], folder: Path | None, weights: Path | None, sha256: str | None
) -> tuple[Path, str | None]:
    """The file and the sha256 that it must have: the published one unless another file is named."""
    if weights is not None:
        return weights, sha256
    official = network.weights
    return (CHECKPOINTS if folder is None else folder) / official.file, sha256 or official.sha256
