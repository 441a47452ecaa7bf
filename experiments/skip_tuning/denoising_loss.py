"""Denoising losses in pixels, features and wavelet bands on paired images and noise (Tables 8, 9, 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import NetworkRun, measure_section, network_arguments
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.evaluation.denoising_losses import (
    Space,
    edm_weight,
    feature_space,
    measure_losses,
    noisy_as_in_training,
    noisy_at,
    pixel_space,
)
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.wavelets import BANDS, wavelet_space
from skiptune.interventions.build import attach_intervention
from skiptune.runtime.networks import cached_extractor


@dataclass(frozen=True)
class DenoisingLoss(NetworkRun):
    """Per image ``[N]``: ``pixel``, ``feature_1`` ... in the given networks, the wavelet bands.

    Attributes:
        sigma: a noise level, whose losses are unweighted, or None: EDM's log-normal levels and weight.
        features: the feature networks.
        wavelet: its name in PyWavelets.
    """

    kind: ClassVar[str] = "denoising loss"

    sigma: float | None
    features: tuple[ExtractorRef, ...]
    wavelet: str = "bior1.3"

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "features": [features.identity for features in self.features]}

    @property
    def spaces(self) -> dict[str, Space]:
        networks = [cached_extractor(features, self.device) for features in self.features]
        return {
            "pixel": pixel_space,
            **{f"feature_{i}": feature_space(network) for i, network in enumerate(networks, start=1)},
            **{band: wavelet_space(band, self.wavelet) for band in BANDS},
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        images, condition = self.real_images(seeds)
        if self.sigma is None:
            noisy = noisy_as_in_training(images, seeds, condition)
            weight = edm_weight(noisy.sigma).cpu()
        else:
            noisy, weight = noisy_at(images, seeds, self.sigma, condition), torch.ones(len(images))
        denoiser = self.denoiser
        # No schedule in time: there is no sampler that could give the levels.
        with attach_intervention(self.intervention, denoiser, []):
            losses = measure_losses(denoiser, noisy, self.spaces, self.micro_batch)
        return {**{name: weight * loss for name, loss in losses.items()}, "nfe": torch.ones(len(images))}


def denoising_loss(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: denoising_loss, sigma: a level or training}``; metrics as ``DenoisingLoss`` says.

    The feature networks are the role's ``loss_features``, in that order.
    """
    spec = measure_section(row)
    sigma = None if row.measure.get("sigma") == "training" else spec.number("sigma")
    spec.take("sigma", object)
    spec.finish()
    run = DenoisingLoss(
        **network_arguments(scale, row, intervention),
        sigma=sigma,
        features=tuple(scale.extractor(row.role, name) for name in scale.role(row.role).loss_features),
    )
    return ImageMeans(run, blocks, metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    return 1.0
