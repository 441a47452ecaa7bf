from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from skiptune.denoisers import Denoiser, build_denoiser
from skiptune.training.losses.edm import EDMLoss

IMAGES = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0)).clip(-1, 1)


class Posterior(Denoiser):
    """The best denoiser of data from N(0, 0.5^2): ``x / (1 + 4 sigma^2)``; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__((2, 4, 4), 3)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        self.asked = (x, sigma, condition)
        return x / (1 + 4 * sigma**2)


def test_value_is_the_formula() -> None:
    generator = torch.Generator().manual_seed(5)
    loss = EDMLoss(p_mean=-0.4, p_std=0.7, sigma_data=0.5)(denoiser := Posterior(), IMAGES, None, generator)
    again = torch.Generator().manual_seed(5)
    level, noise = torch.randn(6, generator=again), torch.randn(IMAGES.shape, generator=again)
    total = 0.0
    for image in range(6):
        sigma = math.exp(-0.4 + 0.7 * float(level[image]))
        weight = 1 / sigma**2 + 1 / 0.5**2  # = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2
        noisy = IMAGES[image].double() + sigma * noise[image].double()
        total += weight * float((noisy / (1 + 4 * sigma**2) - IMAGES[image]).square().mean()) / 6
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert denoiser.asked[1].flatten().log().tolist() == pytest.approx((level * 0.7 - 0.4).tolist(), abs=1e-5)


def test_best_denoiser_of_gaussian_data_has_loss_one() -> None:
    # For data N(0, sigma_data^2) the error's variance is the inverse of the weight at every noise level.
    generator = torch.Generator().manual_seed(1)
    images = 0.5 * torch.randn(4000, 2, 4, 4, generator=generator)
    assert float(EDMLoss()(Posterior(), images, None, generator)) == pytest.approx(1, abs=0.02)


def test_network_starts_at_loss_one_on_unit_target() -> None:
    # F = 0 predicts c_skip x; the EDM weight makes its loss E[F_target^2], which is 1 for data of sigma_data.
    kwargs = {
        "img_resolution": 4,
        "img_channels": 2,
        "model_channels": 8,
        "channel_mult": [1],
        "num_blocks": 1,
    }
    denoiser = build_denoiser({"class": "EDMPrecond", "kwargs": kwargs})
    generator = torch.Generator().manual_seed(2)
    images = 0.5 * torch.randn(2000, 2, 4, 4, generator=generator)
    with torch.no_grad():
        assert float(EDMLoss()(denoiser, images, None, generator)) == pytest.approx(1, abs=0.03)


def test_condition_is_passed_and_the_generator_decides() -> None:
    condition = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    denoiser = Posterior()
    values = [EDMLoss()(denoiser, IMAGES, condition, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert denoiser.asked[2] is not None and torch.equal(denoiser.asked[2], condition)
    assert values[0] == values[1] != values[2]
