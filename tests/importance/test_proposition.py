"""Variances of block outputs where they are known: a linear network in the shape of a U-Net of diffusers."""

import pytest
import torch
from torch import nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.importance import fitted_weights, optimal_weights, variance_terms
from skiptune.importance.proposition import CrossedSums

GAINS, READ = (2.0, 0.5, -1.0), (0.3, 0.4, -0.2)
SIGMAS = (0.5, 3.0)
GENERATOR = torch.Generator().manual_seed(3)
X0 = 0.7 * torch.randn(5, 2, 4, 4, generator=GENERATOR, dtype=torch.float64)
NOISE = torch.randn(6, 2, 4, 4, generator=GENERATOR, dtype=torch.float64)


class Gain(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return self.gain * x


class Level(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList([Gain(gain)])


class Linear(Denoiser):
    """The noise is predicted as the sum of what three blocks make of the input, ``sum_i r_i g_i x``."""

    def __init__(self):
        super().__init__((2, 4, 4))
        self.conv_in = nn.Identity()
        down, self.mid_block, up = (Level(gain) for gain in GAINS)
        self.down_blocks, self.up_blocks = nn.ModuleList([down]), nn.ModuleList([up])
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma, condition=None):
        levels = (self.down_blocks[0], self.mid_block, self.up_blocks[0])
        outputs = [level.attentions[0](x) for level in levels]
        noise = sum(read * output for read, output in zip(READ, outputs, strict=True))
        return x - sigma.to(x) * noise


def test_terms_of_a_linear_network():
    """Every block's output is a multiple of ``x0 + sigma n``: two parts, no rest, the same share in all."""
    terms = variance_terms(Linear(), X0, NOISE, SIGMAS)
    gains, levels = torch.tensor(GAINS).double(), torch.tensor(SIGMAS).double()[:, None]
    spread = [images.var(dim=0).mean() for images in (X0, NOISE)]
    torch.testing.assert_close(terms.signal, (gains**2 * spread[0]).expand(2, 3))
    torch.testing.assert_close(terms.noise, gains**2 * levels**2 * spread[1])
    assert bool((terms.intrinsic.abs() < 1e-12).all())
    torch.testing.assert_close(terms.gain, torch.tensor(READ).double().abs().expand(2, 3))
    share = levels**2 * spread[1] / (levels**2 * spread[1] + spread[0])
    torch.testing.assert_close(terms.optimal, share.expand(2, 3))
    assert torch.equal(optimal_weights(Linear(), X0, NOISE, SIGMAS), terms.optimal)
    at_best = terms.error(terms.optimal)
    for change in (0.05, -0.05):  # the minimum of Eq. 4, which is quadratic in every weight
        assert bool((terms.error(terms.optimal + change) > at_best).all())
    by_hand = sum(
        r**2 * g**2 * (0.1**2 * 9 * spread[1] + 0.9**2 * spread[0]) for r, g in zip(READ, GAINS, strict=True)
    )
    assert float(terms.error(torch.full((2, 3), 0.9).double())[1]) == pytest.approx(float(by_hand))


def test_what_neither_image_nor_noise_explains():
    """Independent draws in every cell: the estimates come back without bias."""
    image, noise, rest = torch.randn(30, 1, 2000), torch.randn(1, 40, 2000), torch.randn(30, 40, 2000)
    values, sums = 5 + 2 * image + 3 * noise + 0.5 * rest, CrossedSums()
    for column in range(40):
        sums.add(values[:, column])
    found = [float(variance) for variance in sums.variances]
    assert found == pytest.approx([4, 9, 0.25], rel=0.03)
    assert float(sums.square) == pytest.approx(float(values.square().mean()), rel=1e-5)


def test_fitted_weights_lower_the_error_most():
    """The blocks of the linear network are multiples of each other: the best multiple of the input is known,
    and of all weights that give it those nearest to 1 are taken."""
    found = fitted_weights(Linear(), X0, NOISE, SIGMAS)
    parts = torch.tensor(READ).double() * torch.tensor(GAINS).double()
    for weights, sigma in zip(found, SIGMAS, strict=True):
        x = X0[:, None] + sigma * NOISE
        best = (x * NOISE).sum() / x.square().sum()
        assert float((weights * parts).sum()) == pytest.approx(float(best), rel=1e-6)
        nearest = 1 + (best - parts.sum()) * parts / parts.square().sum()
        torch.testing.assert_close(weights, nearest, rtol=1e-5, atol=1e-6)


def test_a_diffusers_network_has_terms_of_every_block(make_prompted):
    denoiser = make_prompted("sdxl")
    x0, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    terms = variance_terms(denoiser, x0, noise, [1.0])
    for name in ("signal", "noise", "gain"):
        assert getattr(terms, name).shape == (1, 5) and bool((getattr(terms, name) > 0).all())
    assert float(terms.optimal.min()) >= 0 and float(terms.optimal.max()) <= 1
    assert not any(module._forward_hooks for module in denoiser.modules())
    with pytest.raises(SkiptuneError, match="at least 2 images and 2 noises, got 1 and 2"):
        variance_terms(denoiser, x0[:1], noise, [1.0])
