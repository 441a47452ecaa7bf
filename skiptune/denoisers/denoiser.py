"""The one interface that every network is sampled through.

A denoiser estimates the clean image from a noisy one, ``D(x, sigma, condition) -> x0`` with ``x = x0 + sigma
* n`` and ``n ~ N(0, I)`` (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative
  Models", eq. 2-3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError


class Denoiser(nn.Module):
    """Base class: counts function evaluations and fixes the shapes.

    With torch.compile, compile the inner network: the count would make every call of this one a new graph.

    Attributes:
        image_shape: ``(C, H, W)``.
        num_classes: width of the one-hot condition, 0 for an unconditional network.
        sigma_min, sigma_max: range of noise levels the network accepts, in image units.
        nfe: number of forward calls so far (one call on a batch counts once). Reset it by assignment.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        sigma_min: float = 0.0,
        sigma_max: float = float("inf"),
    ):
        super().__init__()
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.nfe = 0

    def forward(
        self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, **options: Tensor | None
    ) -> Tensor:
        """Estimate the clean image.

        Args:
            x: noisy images ``[N, C, H, W]`` in image units.
            sigma: noise standard deviation, one for all ``[]`` or one per image ``[N]``.
            condition: one-hot class labels ``[N, K]``; ``None`` is an all-zero row, as in EDM.
            options: further inputs of the network, for example ``augment_labels`` ``[N, 9]``.

        Returns:
            ``x0`` in float32, ``[N, C, H, W]``.

        Raises:
            SkiptuneError: a condition of another width.
        """
        self.nfe += 1
        x = x.to(torch.float32)
        sigma = torch.as_tensor(sigma, device=x.device).to(torch.float32).reshape(-1, 1, 1, 1)
        if self.num_classes == 0:
            condition = None
        elif condition is None:
            condition = x.new_zeros(1, self.num_classes)
        else:
            if condition.shape[-1] != self.num_classes:
                shape = list(condition.shape)
                raise SkiptuneError(
                    f"condition has shape {shape}, expected one-hot labels [N, {self.num_classes}]"
                )
            condition = condition.to(torch.float32).reshape(-1, self.num_classes)
        return self.denoise(x, sigma, condition, **options)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        """The estimate itself, to be given by a subclass; ``sigma`` has shape ``[1 or N, 1, 1, 1]``."""
        raise NotImplementedError

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """Noise levels that the network knows, nearest to ``sigma``; continuous-time networks know all."""
        return torch.as_tensor(sigma)
