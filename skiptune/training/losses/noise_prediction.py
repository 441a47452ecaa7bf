"""The loss of networks on a discrete schedule: predict the noise (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from skiptune.denoisers import Denoiser
from skiptune.denoisers.discrete import DiscreteDenoiser
from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class NoisePredictionLoss:
    """``mean ((D(x0 + sigma_t n, sigma_t) - x0) / sigma_t)^2``, t uniform on the network's schedule.

    For a noise prediction ``D = x - sigma eps`` this is DDPM's simple loss ``mean (eps - n)^2``.

    Attributes:
        antithetic: draw half of the times and mirror them (``draw_times``).
        summed: sum over an image's elements, mean over images, as ermongroup/ddim; of consequence where
            gradients are clipped. Else the mean over all elements.
    """

    antithetic: bool = False
    summed: bool = False

    def __call__(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: Generator
    ) -> Tensor:
        """Loss ``[]`` of one time and one noise per image.

        Args:
            images: clean images or latents ``[N, C, H, W]``.
            condition: one-hot labels ``[N, K]``.
            generator: of the CPU; first the times are drawn, then the noise.

        Raises:
            SkiptuneError: a denoiser without discrete times.
        """
        discrete = with_times(denoiser)
        times = draw_times(len(images), 0, discrete.num_timesteps, self.antithetic, generator)
        _, error = predict(discrete, images, condition, times, generator)
        return reduced(error.square(), self.summed)


def with_times(denoiser: Denoiser) -> DiscreteDenoiser:
    """The denoiser itself. Raises SkiptuneError if it has no discrete times."""
    if not isinstance(denoiser, DiscreteDenoiser):
        raise SkiptuneError(
            f"{type(denoiser).__name__} has no discrete times to train at; use loss edm, or a "
            "DiscreteDenoiser"
        )
    return denoiser


def draw_times(count: int, first: int, end: int, antithetic: bool, generator: Generator) -> Tensor:
    """Times ``[count]`` in ``first..end - 1``, uniform.

    Antithetic, of a half and one more the mirror images ``first + end - 1 - t`` follow, as many as are
    needed (ermongroup/ddim): the mean of an even batch's times then varies little.
    """
    if not antithetic:
        return torch.randint(first, end, (count,), generator=generator)
    half = torch.randint(first, end, (count // 2 + 1,), generator=generator)
    return torch.cat([half, first + end - 1 - half])[:count]


def predict(
    denoiser: DiscreteDenoiser,
    images: Tensor,
    condition: Tensor | None,
    times: Tensor,
    generator: Generator,
    **options: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The noise n added at these times, and ``n - eps`` of the network: ``[N, C, H, W]`` each, one call.

    ``options`` are further inputs of the denoiser.
    """
    sigma = denoiser.sigmas[times].to(torch.float32).reshape(-1, 1, 1, 1).to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    estimate = denoiser(images + sigma * noise, sigma.flatten(), condition, **options)
    return noise, (estimate - images) / sigma


def reduced(values: Tensor, summed: bool) -> Tensor:
    """``[N, C, H, W]`` -> ``[]``: the mean, or the mean over images of the sums over their elements."""
    return values.sum((1, 2, 3)).mean() if summed else values.mean()
