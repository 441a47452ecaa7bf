"""Denoising losses in pixels, features and wavelet bands, on paired images and noise.

``L_S = E_sigma w(sigma) E |S(D(x + sigma n, sigma)) - S(x)|^2`` with ``S`` the pixels, a frozen feature
network or a wavelet band (Skip-Tuning, section 5.1, Tables 8, 9 and 14). The square is the mean over the
elements of ``S``. Noise belongs to seeds, so every arm (intervention) sees the same images and noise: its
losses [N] are to be compared image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import FeatureExtractor
from skiptune.samplers.noise import step_noise
from skiptune.samplers.sample import ConditionalDenoiser

Space = Callable[[Tensor], Tensor]
"""Float images [N, C, H, W] in [-1, 1] -> their representation [N, ...], in which the distance is taken."""


def pixel_space(images: Tensor) -> Tensor:
    """The images themselves (L_pixel)."""
    return images


def feature_space(extractor: FeatureExtractor) -> Space:
    """Features [N, d] of float images, not rounded to uint8 and differentiable (L_feature).

    The space raises SkiptuneError for images of another shape than the extractor's.
    """

    def features(images: Tensor) -> Tensor:
        if extractor.image_shape not in (None, tuple(images.shape[1:])):
            raise SkiptuneError(
                f"features {extractor.name} are of images {list(extractor.image_shape or ())}, "
                f"got {list(images.shape[1:])}: choose the extractor of the model's data"
            )
        return extractor.network(images.to(torch.float32))["features"]

    return features


@dataclass(frozen=True, eq=False)
class NoisyImages:
    """What every arm is given.

    Attributes:
        images: clean [N, C, H, W] in [-1, 1].
        noise: unit noise [N, C, H, W].
        sigma: noise levels [N] in image units, float64.
        condition: one-hot [N, K], or None.
    """

    images: Tensor
    noise: Tensor
    sigma: Tensor
    condition: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """images + sigma noise [N, C, H, W], float64."""
        return self.images.to(torch.float64) + self.sigma.reshape(-1, 1, 1, 1) * self.noise

    def part(self, rows: slice) -> NoisyImages:
        """Some of the images."""
        condition = None if self.condition is None else self.condition[rows]
        return NoisyImages(self.images[rows], self.noise[rows], self.sigma[rows], condition)


def noisy_at(
    images: Tensor, seeds: Sequence[int], sigma: float, condition: Tensor | None = None, draw: int = 0
) -> NoisyImages:
    """All images at one level (Table 9). The noise is a function of (seed, draw), the same at every level."""
    _, noise = _draws(images, seeds, draw)
    return NoisyImages(images, noise, torch.full_like(noise[:, 0, 0, 0], sigma), condition)


def noisy_as_in_training(
    images: Tensor,
    seeds: Sequence[int],
    condition: Tensor | None = None,
    draw: int = 0,
    p_mean: float = -1.2,
    p_std: float = 1.2,
) -> NoisyImages:
    """One level per image, ln sigma ~ N(p_mean, p_std^2) (EDM, Table 1), a function of (seed, draw)."""
    normal, noise = _draws(images, seeds, draw)
    return NoisyImages(images, noise, (p_mean + p_std * normal).exp(), condition)


def edm_weight(sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """EDM's training weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of levels [N], same shape."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def denoising_losses(
    denoiser: ConditionalDenoiser, noisy: NoisyImages, spaces: Mapping[str, Space]
) -> dict[str, Tensor]:
    """Unweighted loss [N] float64 per image, in every space; differentiable, all images in one batch."""
    estimate = denoiser(noisy.x, noisy.sigma, noisy.condition)
    return {name: space_loss(space, estimate, noisy.images) for name, space in spaces.items()}


@torch.no_grad()
def measure_losses(
    denoiser: ConditionalDenoiser, noisy: NoisyImages, spaces: Mapping[str, Space], micro_batch: int = 64
) -> dict[str, Tensor]:
    """`denoising_losses` without gradients, `micro_batch` images at a time, on the CPU.

    Weighted losses are these times `edm_weight(noisy.sigma)`, image by image. Kernels choose algorithms by
    batch size, so arms are compared with the same `micro_batch`.
    Raises SkiptuneError without images.
    """
    count = len(noisy.images)
    if count == 0 or micro_batch < 1:
        raise SkiptuneError(f"losses need images and a micro_batch, got {count} images and {micro_batch}")
    parts = [
        denoising_losses(denoiser, noisy.part(slice(start, start + micro_batch)), spaces)
        for start in range(0, count, micro_batch)
    ]
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in spaces}


def space_loss(space: Space, estimates: Tensor, images: Tensor) -> Tensor:
    """|S(estimates) - S(images)|^2, the mean over the elements of an image, [N] float64."""
    # Differences in float64: at low noise both arguments nearly agree.
    difference = space(estimates).to(torch.float64) - space(images).to(torch.float64)
    return difference.square().flatten(1).mean(1)


def _draws(images: Tensor, seeds: Sequence[int], draw: int) -> tuple[Tensor, Tensor]:
    """A normal number [N] and unit noise [N, C, H, W], both float64, from one stream per seed."""
    if len(seeds) != len(images):
        raise SkiptuneError(f"{len(seeds)} seeds for {len(images)} images: every image needs one")
    values = step_noise(seeds, draw, (1, 1, 1 + images[0].numel()), images.device).flatten(1)
    return values[:, 0], values[:, 1:].reshape(images.shape)
