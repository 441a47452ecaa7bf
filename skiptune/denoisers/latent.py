"""Diffusion in the latent space of an autoencoder (Rombach et al. 2022)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.guidance import Wrapper
from skiptune.errors import SkiptuneError


class Autoencoder(Protocol):
    """Images ``[N, 3, H, W]`` in [-1, 1] to latents ``[N, C, h, w]`` and back, both in float32."""

    def encode(self, images: Tensor, /) -> Tensor: ...

    def decode(self, latents: Tensor, /) -> Tensor: ...


class LatentDenoiser(Wrapper):
    """A denoiser of latents ``z = scale * encode(image)``, with the autoencoder that makes images of them.

    Noise, noise levels and ``image_shape`` are those of the latents; it is sampled like any denoiser and its
    samples go through ``decode``. Decoding is not counted in ``nfe``.

    Args:
        model: the denoiser of latents, with its guidance if any.
        autoencoder: a module; it moves and is saved with the denoiser.
        scale: LDM's VQ-f4 1.0, Stable Diffusion's and U-ViT's KL-f8 0.18215.

    Raises:
        SkiptuneError: a scale that is not positive.
    """

    def __init__(self, model: Denoiser, autoencoder: Autoencoder, scale: float = 1.0):
        if not scale > 0:
            raise SkiptuneError(f"the scale of latents must be positive, got {scale}")
        super().__init__(model)
        self.autoencoder = autoencoder
        self.scale = scale

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        return self.evaluate(self.model, x, sigma, condition, options)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[N, C, h, w]`` of any float type -> images ``[N, 3, H, W]`` float32, about [-1, 1].

        Raises:
            SkiptuneError: latents of another shape.
        """
        if tuple(latents.shape[1:]) != tuple(self.image_shape):
            expected = ", ".join(map(str, self.image_shape))
            raise SkiptuneError(f"latents have shape {list(latents.shape)}, expected [N, {expected}]")
        return self.autoencoder.decode(latents.to(torch.float32) / self.scale)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images ``[N, 3, H, W]`` in [-1, 1] -> latents ``[N, C, h, w]`` float32."""
        return self.scale * self.autoencoder.encode(images.to(torch.float32))
