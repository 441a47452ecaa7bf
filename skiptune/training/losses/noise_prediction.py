"""The loss of networks on a discrete schedule: predict the noise (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.denoisers.discrete import DiscreteDenoiser
from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class NoisePredictionLoss:
    """``mean ((D(x0 + sigma_t n, sigma_t) - x0) / sigma_t)^2``, t uniform on the network's schedule.

    For a noise prediction ``D = x - sigma eps`` this is DDPM's simple loss ``mean (eps - n)^2``.
    """

    def __call__(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Loss ``[]`` of one time and one noise per image.

        Args:
            images: clean images or latents ``[N, C, H, W]``.
            condition: one-hot labels ``[N, K]``.
            generator: of the CPU; first the N times are drawn, then the noise.

        Raises:
            SkiptuneError: a denoiser without discrete times.
        """
        if not isinstance(denoiser, DiscreteDenoiser):
            raise SkiptuneError(
                f"{type(denoiser).__name__} has no discrete times to train at; use loss edm, or a "
                "DiscreteDenoiser"
            )
        times = torch.randint(denoiser.num_timesteps, (len(images),), generator=generator)
        sigma = denoiser.sigmas[times].to(torch.float32).reshape(-1, 1, 1, 1).to(images.device)
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        estimate = denoiser(images + sigma * noise, sigma.flatten(), condition)
        return ((estimate - images) / sigma).square().mean()
