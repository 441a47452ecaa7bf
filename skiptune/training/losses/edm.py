"""Training losses of denoisers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser


@dataclass(frozen=True)
class EDMLoss:
    """Weighted denoising loss with log-normal noise levels (Karras et al. 2022, Table 1, column EDM).

    ``ln sigma ~ N(p_mean, p_std^2)``, weight ``(sigma^2 + sigma_data^2) / (sigma sigma_data)^2``, mean over
    all elements; the published loss sums over an image's elements instead.
    """

    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_data: float = 0.5

    def __call__(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Loss ``[]`` of one noise level and one noise per image.

        Args:
            images: clean images ``[N, C, H, W]`` in [-1, 1].
            condition: one-hot labels ``[N, K]``.
            generator: of the CPU; first the N noise levels are drawn, then the noise.
        """
        normal = torch.randn(len(images), 1, 1, 1, generator=generator).to(images.device)
        sigma = (normal * self.p_std + self.p_mean).exp()
        noise = torch.randn(images.shape, generator=generator).to(images.device) * sigma
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        return (weight * (denoiser(images + noise, sigma.flatten(), condition) - images) ** 2).mean()
