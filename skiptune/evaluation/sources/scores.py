"""Scores of image files: LPIPS between pairs of equal names, HPS v2 of images and their prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from skiptune.data.texts import read_texts
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import CHECKPOINTS
from skiptune.evaluation.perceptual import HPSv2, PairedDistance, load_hps_v2, load_lpips
from skiptune.evaluation.sources.images import ImageSource, with_channels
from skiptune.runtime.files import digest
from skiptune.runtime.precision import in_precision
from skiptune.runtime.provenance import device as usable_device
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS


@dataclass(frozen=True)
class PairDistances:
    """The run that holds the LPIPS distance of every image of `a` to its partner in `b`.

    Picture files pair by their relative names without suffix, other images by their order. Raises
    SkiptuneError if an image has no partner. The network comes from `weights`, else from torchvision's file
    in `checkpoints`.
    """

    a: ImageSource
    b: ImageSource
    backbone: str
    weights: Path | None = None
    checkpoints: Path = CHECKPOINTS
    device: str = "cpu"

    def __post_init__(self) -> None:
        names = self.a.names, self.b.names
        if names[0] is not None and names[1] is not None and names[0] != names[1]:
            alone = sorted(set(names[0]) ^ set(names[1])) or ["their order: use one suffix"]
            where = f"{self.a.place} and {self.b.place}"
            raise SkiptuneError(f"lpips compares images of equal names: {where} differ in {alone[0]}")
        counts = [source.count() for source in (self.a, self.b)]
        if counts[0] != counts[1]:
            raise SkiptuneError(f"lpips compares pairs, there are {counts[0]} and {counts[1]} images")

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "lpips",
            "numerics": NUMERICS,
            "images": [self.a.identity, self.b.identity],
            "network": {"backbone": self.backbone, "sha256": self.network().digest},
            "chunk": CHUNK,
            "device": self.device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """`lpips` [n] of the images with these numbers."""
        a, b = (with_channels(source.read(seeds)[0], None) for source in (self.a, self.b))
        with in_precision("fp32", self.device):
            return {"lpips": self.network()(a, b)}

    def network(self) -> PairedDistance:
        """LPIPS, loaded once per process."""
        return _lpips(self.backbone, self.weights, self.checkpoints, self.device)


@dataclass(frozen=True)
class PromptScores:
    """The run that holds the HPS v2 score of every image with its prompt (SkiptuneError: another number)."""

    images: ImageSource
    prompts: tuple[str, ...]
    weights: Path | None = None
    checkpoints: Path = CHECKPOINTS
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (count := self.images.count()) != len(self.prompts):
            raise SkiptuneError(f"hps_v2 needs a prompt for each image, got {len(self.prompts)} for {count}")

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "hps_v2",
            "numerics": NUMERICS,
            "images": self.images.identity,
            "prompts": digest(json.dumps(self.prompts)),
            "network": self.network().digest,
            "chunk": CHUNK,
            "device": self.device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """`hps_v2` [n] of the images with these numbers."""
        images = with_channels(self.images.read(seeds)[0], None)
        with in_precision("fp32", self.device):
            return {"hps_v2": self.network()(images, self.prompts[seeds.start : seeds.stop])}

    def network(self) -> HPSv2:
        """The scorer, loaded once per process."""
        return _hps_v2(self.weights, self.checkpoints, self.device)


@lru_cache(maxsize=1)
def _lpips(backbone: str, weights: Path | None, folder: Path, device: str) -> PairedDistance:
    return load_lpips(backbone, folder, usable_device(device), weights=weights)


@lru_cache(maxsize=1)
def _hps_v2(weights: Path | None, folder: Path, device: str) -> HPSv2:
    return load_hps_v2(folder, usable_device(device), weights=weights)


def read_prompts(path: Path, images: ImageSource) -> tuple[str, ...]:
    """Prompts in the order of the images: one a line, or JSON, a list or {name: prompt} of picture files.

    Names count without suffix. Raises SkiptuneError: no such file, anything else in it, a missing prompt.
    """
    found = read_texts(path)
    if isinstance(found, Mapping):
        by_name = {str(Path(name).with_suffix("")): prompt for name, prompt in found.items()}
        names = images.names or []
        if missing := [name for name in names if name not in by_name]:
            raise SkiptuneError(f"{path} has no prompt for {missing[0]}")
        found = [by_name[name] for name in names]
    if not isinstance(found, list) or not all(isinstance(prompt, str) for prompt in found):
        raise SkiptuneError(f"the prompts {path} are no list of texts")
    return tuple(found)
