"""How much larger L_skip is than L_0 of a trained network (S2-DMs, section 3.3; readings S2-A4, S2-A6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import Evaluated, SeedBlocks
from experiments.scale import Scale
from experiments.skip_tuning.network_run import NetworkRun, measure_section, network_arguments
from experiments.tables.config import RowConfig
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.denoisers import Denoiser
from skiptune.runtime.store import RunStore
from skiptune.skip_step import READINGS
from skiptune.training.losses.skip_step import SkipStepLoss

RATIO = "ratio"


@dataclass(frozen=True)
class LossTerms(NetworkRun):
    """``l_0`` and ``l_skip`` ``[N]``, mean squared error per image, at one random time and noise each.

    Of the training split, image ``i`` being seed ``i`` as in training; but without dropout, and with the
    averaged weights.
    """

    kind: ClassVar[str] = "terms of the skip-step loss"

    skip: int
    factor: str

    def compute(self, seeds: range) -> dict[str, Tensor]:
        images = from_uint8(load_dataset(self.dataset).batch(seeds, "train")[0]).to(self.device)
        loss = SkipStepLoss(skip=self.skip, factor=self.factor)
        terms = mean_terms(self.denoiser, loss, images, seeds, self.micro_batch)
        return {**terms, "nfe": torch.ones(len(seeds))}


@torch.inference_mode()
def mean_terms(
    denoiser: Denoiser, loss: SkipStepLoss, images: Tensor, seeds: range, micro_batch: int
) -> dict[str, Tensor]:
    """``l_0`` and ``l_skip`` ``[N]`` float64 of clean images ``[N, C, H, W]``, means over their elements.

    Times and noise belong to the first seed of a micro-batch.
    """
    found: dict[str, list[Tensor]] = {"l_0": [], "l_skip": []}
    for start in range(0, len(seeds), micro_batch):
        generator = Generator().manual_seed(seeds[start])
        _, plain, skipping = loss.terms(denoiser, images[start : start + micro_batch], None, generator)
        for name, term in (("l_0", plain), ("l_skip", skipping)):
            found[name].append(term.double().flatten(1).mean(1).cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class LossRatio:
    """Block means ``l_0`` and ``l_skip``, and their ``ratio`` (of the means, as batches have it)."""

    terms: ImageMeans
    metrics: tuple[str, ...]

    @property
    def settings(self) -> LossTerms:
        run = self.terms.settings
        assert isinstance(run, LossTerms)
        return run

    @property
    def blocks(self) -> SeedBlocks:
        return self.terms.blocks

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.terms.identity, "kind": "loss ratio", "metrics": sorted(self.metrics)}

    def evaluate(self, store: RunStore) -> Evaluated:
        found = self.terms.evaluate(store)
        pairs = zip(found.values["l_skip"], found.values["l_0"], strict=True)
        values = {**found.values, RATIO: [skipping / plain for skipping, plain in pairs]}
        return Evaluated({name: values[name] for name in sorted(self.metrics)}, found.nfe)


def loss_ratio(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> LossRatio:
    """``measure: {kind: loss_ratio, skip, factor: eq12 or eq11}``; metrics ``l_0``, ``l_skip``, ``ratio``."""
    spec = measure_section(row)
    skip, factor = spec.take("skip", int), spec.choice("factor", READINGS["factor"])
    spec.finish()
    run = LossTerms(**network_arguments(scale, row, intervention), skip=skip, factor=factor)
    return LossRatio(ImageMeans(run, blocks, ("l_0", "l_skip")), metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    return 1.0
