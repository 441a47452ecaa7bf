"""The loss of EDM2: EDM's, balanced over noise levels by a learned uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class EDM2Loss:
    """``mean [weight error^2 / exp(u(sigma)) + u(sigma)]`` (Karras et al. 2024, eq. 21), mean over elements.

    ``u`` is the denoiser's ``logvar``, trained along; at its best it is the log of EDM's weighted loss at
    that level. ``ln sigma ~ N(p_mean, p_std^2)`` with EDM2's values for ImageNet-64 as defaults.
    """

    p_mean: float = -0.8
    p_std: float = 1.6
    sigma_data: float = 0.5

    def __call__(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Loss ``[]`` of one noise level and one noise per image; draws and arguments as in ``EDMLoss``.

        Raises:
            SkiptuneError: a denoiser that does not estimate its uncertainty.
        """
        if not isinstance(denoiser, EDM2Precond):
            raise SkiptuneError(f"{type(denoiser).__name__} learns no logvar; use loss=edm, or EDM2Precond")
        normal = torch.randn(len(images), 1, 1, 1, generator=generator).to(images.device)
        sigma = (normal * self.p_std + self.p_mean).exp()
        noise = torch.randn(images.shape, generator=generator).to(images.device) * sigma
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        error = (denoiser(images + noise, sigma.flatten(), condition) - images) ** 2
        logvar = denoiser.logvar(sigma).to(torch.float32)
        return (weight * error / logvar.exp() + logvar).mean()
