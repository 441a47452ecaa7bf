"""Runs that decode given latents by a deterministic sampler: images are a function of the latent alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.network_run import NetworkRun, network_arguments
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import ModelRef
from skiptune.data.images import to_uint8
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.interventions.build import attach_intervention
from skiptune.runtime.generation import not_finite, sampler_identity
from skiptune.runtime.networks import cached_extractor, cached_model
from skiptune.samplers import make_sampler, sample


@dataclass(frozen=True)
class LatentRun(NetworkRun):
    """Latents ``x_T`` of numbered seeds, as sampling begins with, decoded and seen by an extractor."""

    sampler: Mapping[str, Any]
    features: ExtractorRef

    @property
    def reads_images(self) -> bool:
        return False

    def resolved(self) -> dict[str, Any]:
        return {
            **super().resolved(),
            "sampler": sampler_identity(self.sampler),
            "features": self.features.identity,
        }

    def latents(self, seeds: range) -> Tensor:
        """Unit noise ``[N, C, H, W]`` on the device. Raises SkiptuneError for a model that takes a class."""
        noise, condition = self.noise(seeds)
        if condition is not None:
            raise SkiptuneError(f"{self.model.name} takes classes; latents are decoded without one")
        return noise

    def decoded(self, model: ModelRef, latents: Tensor, seeds: range) -> tuple[Tensor, float]:
        """Images ``[N, C, H, W]`` uint8 of these latents by a model, and network evaluations per image.

        Raises:
            SkiptuneError: a stochastic sampler, or an image with NaN or infinity.
        """
        denoiser, sampler = cached_model(model, self.device), make_sampler(**self.sampler)
        levels = sampler.fitted(denoiser).sigmas.tolist()
        denoiser.nfe, parts = 0, []
        with torch.inference_mode(), attach_intervention(self.intervention, denoiser, levels):
            for i in range(0, len(latents), self.micro_batch):
                noise = latents[i : i + self.micro_batch].contiguous(memory_format=torch.channels_last)
                x = sample(sampler, denoiser, noise)
                if isinstance(denoiser, LatentDenoiser):
                    x = denoiser.decode(x)
                if error := not_finite(x, seeds[i : i + self.micro_batch], self.intervention):
                    raise error
                parts.append(to_uint8(x, model.rounding).cpu())
        return torch.cat(parts), denoiser.nfe / len(parts)

    def seen(self, images: Tensor) -> Tensor:
        """Features ``[N, d]`` float64 of uint8 images."""
        return cached_extractor(self.features, self.device)(images)["features"].to(torch.float64)


def latent_arguments(scale: Scale, row: RowConfig, intervention: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``LatentRun`` for a row. Raises SkiptuneError if a file is missing."""
    return {
        **network_arguments(scale, row, intervention),
        "sampler": scale.sampler(row.sampler),
        "features": scale.extractor(row.role),
    }
