from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.denoisers.autoencoders import DiagonalGaussian
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.errors import SkiptuneError
from skiptune.training.losses import make_loss
from skiptune.training.losses.autoencoder import kl_to_standard_normal
from skiptune.training.losses.edm import EDMLoss
from skiptune.training.losses.edm2 import EDM2Loss
from skiptune.training.losses.noise_prediction import NoisePredictionLoss

DATA_STD = 0.5
IMAGES = DATA_STD * torch.randn(3000, 2, 4, 4, generator=torch.Generator().manual_seed(0))
SCHEDULE = vp_alphas("linear", 1e-3, 0.2, 100)


class BestNoise(nn.Module):
    """The best prediction of the noise for data from N(0, DATA_STD^2); keeps the times it was asked at."""

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        self.times = t
        sigma = (1 / SCHEDULE - 1).sqrt()[t.long()].float().view(-1, 1, 1, 1)
        return x * (1 + sigma**2).sqrt() * sigma / (DATA_STD**2 + sigma**2)


def test_noise_prediction_of_the_best_network_has_the_loss_of_the_posterior() -> None:
    # Var(x0 | x) = sigma^2 s^2 / (sigma^2 + s^2), and the loss divides by sigma^2.
    sigma2 = 1 / SCHEDULE - 1
    expected = float((DATA_STD**2 / (DATA_STD**2 + sigma2)).mean())
    denoiser = DiscreteDenoiser(BestNoise(), (2, 4, 4), SCHEDULE)
    losses = [
        float(NoisePredictionLoss()(denoiser, IMAGES, None, torch.Generator().manual_seed(seed)))
        for seed in range(4)
    ]
    assert sum(losses) / 4 == pytest.approx(expected, rel=0.02)
    assert len(set(losses)) == 4


def test_noise_prediction_is_at_every_time_of_the_schedule_alike() -> None:
    network = BestNoise()
    NoisePredictionLoss()(DiscreteDenoiser(network, (2, 4, 4), SCHEDULE), IMAGES, None, torch.Generator())
    counts = network.times.long().bincount(minlength=100)
    assert torch.equal(network.times, network.times.round()) and counts.min() > 0
    assert counts.float().std() < 1.5 * math.sqrt(len(IMAGES) / 100)


def test_noise_prediction_of_nothing_has_loss_one() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
            return torch.zeros_like(x)

    denoiser = DiscreteDenoiser(Nothing(), (2, 4, 4), SCHEDULE)
    assert float(NoisePredictionLoss()(denoiser, IMAGES, None, torch.Generator())) == pytest.approx(1, 0.02)


class BestEDM2(EDM2Precond):
    """The best denoiser of the same data, with EDM2's uncertainty."""

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        self.levels = sigma
        return x / (1 + (sigma / DATA_STD) ** 2)


def best_edm2() -> BestEDM2:
    torch.manual_seed(0)
    return BestEDM2(4, 2, 0, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])


def test_edm2_loss_is_balanced_by_the_uncertainty() -> None:
    # EDM's weighted error of the best denoiser is 1 at every level, so that exp(-u) + u is left.
    denoiser = best_edm2()
    loss = EDM2Loss(p_mean=-0.4, p_std=1.0)(denoiser, IMAGES, None, torch.Generator().manual_seed(3))
    u = denoiser.logvar(denoiser.levels).detach()
    assert u.std() > 0.1
    assert loss.item() == pytest.approx(float((1 / u.exp() + u).mean()), rel=0.02)
    assert loss.item() > 1.01
    level = denoiser.levels.log()
    assert float(level.mean()) == pytest.approx(-0.4, abs=0.06)
    assert float(level.std()) == pytest.approx(1, rel=0.05)


def test_edm2_loss_without_uncertainty_is_edms() -> None:
    class Certain(BestEDM2):
        def logvar(self, sigma: Tensor) -> Tensor:
            return torch.zeros(1, 1, 1, 1)

    denoiser = Certain(4, 2, 0, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])
    settings = {"p_mean": -0.3, "p_std": 0.9, "sigma_data": 0.6}
    ours = EDM2Loss(**settings)(denoiser, IMAGES, None, torch.Generator().manual_seed(3))
    assert torch.equal(ours, EDMLoss(**settings)(denoiser, IMAGES, None, torch.Generator().manual_seed(3)))


def test_edm2_uncertainty_learns_the_size_of_the_error() -> None:
    class Worse(BestEDM2):  # 4 times the weighted error of the best at every level
        def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **o: Tensor | None) -> Tensor:
            clean = IMAGES[: len(x)]
            return clean + 2 * (super().denoise(x, sigma, condition) - clean)

    torch.manual_seed(0)
    denoiser = Worse(4, 2, 0, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])
    optimizer = torch.optim.Adam(denoiser.logvar_linear.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        loss = EDM2Loss()(denoiser, IMAGES[:500], None, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.85 * 4  # of u = 0; at best 1 + ln 4
    assert denoiser.logvar(denoiser.levels).mean().item() > 0.5


def test_losses_refuse_networks_of_another_kind() -> None:
    class Plain(Denoiser):
        pass

    plain = Plain((2, 4, 4))
    for name, message in (("noise_prediction", "has no discrete times"), ("edm2", "learns no logvar")):
        with pytest.raises(SkiptuneError, match=f"Plain {message}"):
            make_loss({"name": name})(plain, IMAGES, None, torch.Generator())


def test_kl_of_a_gaussian() -> None:
    mean, variance = 0.7, 0.3
    posterior = DiagonalGaussian(torch.full((2, 3, 1, 1), mean), torch.full((2, 3, 1, 1), math.log(variance)))
    expected = 0.5 * (mean**2 + variance - 1 - math.log(variance))
    assert float(kl_to_standard_normal(posterior)) == pytest.approx(expected, rel=1e-5)
    # The same by integration over samples of the posterior.
    z = mean + math.sqrt(variance) * torch.randn(200_000, generator=torch.Generator())
    own = -0.5 * ((z - mean) ** 2 / variance + math.log(variance))
    assert float((own + 0.5 * z**2).mean()) == pytest.approx(expected, rel=0.02)
