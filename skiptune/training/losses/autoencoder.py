"""The loss of the desk autoencoder: squared error of the reconstruction, and a weak pull towards N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.denoisers.autoencoders import DiagonalGaussian, KLAutoencoder


def kl_to_standard_normal(posterior: DiagonalGaussian) -> Tensor:
    """``KL(N(mean, var) || N(0, I))`` in nats, mean over all elements, ``[]``."""
    variance = posterior.logvar.exp()
    return 0.5 * (posterior.mean.square() + variance - 1 - posterior.logvar).mean()


def autoencoder_loss(
    autoencoder: KLAutoencoder, images: Tensor, kl_weight: float, generator: torch.Generator
) -> Tensor:
    """``mean (decode(z) - x)^2 + kl_weight KL`` with a sample z of the posterior (Kingma & Welling 2014).

    Both terms are means over elements; a latent diffusion model adds a perceptual and an adversarial term
    (Rombach et al. 2022, appendix G), which images of 16x16 pixels do not need.

    Args:
        images: ``[N, C, H, W]`` in [-1, 1].
        generator: of the CPU; draws the noise of z.
    """
    posterior = autoencoder.posterior(images)
    noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
    reconstruction = autoencoder.decode(posterior.sample(noise)).to(torch.float32)
    return (reconstruction - images).square().mean() + kl_weight * kl_to_standard_normal(posterior)
