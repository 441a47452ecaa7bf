"""Consistency models: a network with a boundary condition at the lowest noise level (Song et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.guided import GuidedUNet


class ConsistencyDenoiser(Denoiser):
    """``D(x, sigma) = c_skip x + c_out F(c_in x, 250 ln sigma)`` as in openai/consistency_models.

    With ``distillation`` the scalings make D the identity at ``sigma_min`` (Song et al. 2023, appendix C);
    without it they are EDM's, as of the teacher in the same repository.

    Args:
        sigma_data: standard deviation of the images.
        sigma_min, sigma_max: range of noise levels that the network was trained on.
        unet: arguments of ``GuidedUNet``.
    """

    def __init__(
        self,
        *,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        distillation: bool = True,
        **unet: Any,
    ):
        model = GuidedUNet(**unet)
        super().__init__(model.image_shape, model.num_classes, sigma_min, sigma_max)
        self.model = model
        self.sigma_data, self.distillation = sigma_data, distillation

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``c_skip``, ``c_out``, ``c_in`` in the shape of ``sigma``."""
        data, total = self.sigma_data, sigma**2 + self.sigma_data**2
        above = sigma - self.sigma_min if self.distillation else sigma
        return data**2 / (above**2 + data**2), above * data / total.sqrt(), 1 / total.sqrt()

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        c_skip, c_out, c_in = self.scalings(sigma)
        time = 250 * torch.log(sigma + 1e-44)
        raw = self.model(c_in * x, time.flatten(), condition, **options)
        return c_skip * x + c_out * raw.to(torch.float32)
