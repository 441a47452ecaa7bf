"""The wavelet bands against the transform's definition and its conservation laws."""

import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.denoising_losses import denoising_losses, noisy_at
from skiptune.evaluation.wavelets import BANDS, wavelet_bands, wavelet_space


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 16, 12, generator=generator, dtype=torch.float64)


def inner(band):
    """Without the coefficients that the extension of the boundary enters."""
    return band[..., 3:-3, 3:-3]


def energy(x):
    return x.square().flatten(1).sum(1)


def test_haar_conserves_energy(images):
    bands = wavelet_bands(images, "haar")
    assert [bands[name].shape for name in BANDS] == [(3, 2, 8, 6)] * 4
    torch.testing.assert_close(sum(energy(band) for band in bands.values()), energy(images))


def test_haar_is_sums_and_differences_of_two_by_two_blocks(images):
    a, b, c, d = (images[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    bands = wavelet_bands(images, "haar")
    torch.testing.assert_close(bands["LL"], (a + b + c + d) / 2)
    torch.testing.assert_close(bands["LH"], (a + b - c - d) / 2)
    torch.testing.assert_close(bands["HL"], (a - b + c - d) / 2)
    torch.testing.assert_close(bands["HH"], (a - b - c + d) / 2)


def test_horizontal_stripes_are_horizontal_detail():
    stripes = torch.tensor([1.0, -1.0]).repeat(8).reshape(1, 1, 16, 1).expand(1, 1, 16, 16)
    energies = {name: float(energy(inner(band))) for name, band in wavelet_bands(stripes).items()}
    assert energies["LH"] > 10 and energies["HL"] + energies["HH"] + energies["LL"] < 1e-20
    turned = {name: float(energy(inner(band))) for name, band in wavelet_bands(stripes.mT).items()}
    assert turned["HL"] == pytest.approx(energies["LH"]) and turned["LH"] < 1e-20


def test_bior13_filters_and_symmetric_extension(images):
    """LL in the middle of the image, and at its corner after reflection, from the published taps."""
    low = torch.tensor([-1, 1, 8, 8, 1, -1], dtype=torch.float64) / (8 * math.sqrt(2))
    padded = torch.cat([images[..., :4, :].flip(-2), images, images[..., -4:, :].flip(-2)], dim=-2)
    padded = torch.cat([padded[..., :4].flip(-1), padded, padded[..., -4:].flip(-1)], dim=-1)
    kernel = torch.outer(low, low)[None, None]
    convolved = torch.nn.functional.conv2d(padded.flatten(0, 1)[:, None], kernel, stride=2)
    bands = wavelet_bands(images)
    assert bands["LL"].shape == (3, 2, 10, 8)
    torch.testing.assert_close(bands["LL"], convolved.reshape(3, 2, 10, 8))


def test_white_noise_has_the_gains_of_the_filters():
    """Per element of unit noise a band has the squared norms of its two filters: what Table 14 rests on."""
    noise = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low = (2 * (1 + 1 + 64)) / 128
    expected = {"LL": low**2, "LH": low, "HL": low, "HH": 1.0}
    for name, band in wavelet_bands(noise).items():
        assert float(inner(band).square().mean()) == pytest.approx(expected[name], rel=0.05)


def test_bands_are_a_space_of_the_losses(images):
    noisy = noisy_at(images, range(3), 0.7)
    spaces = {band: wavelet_space(band, "haar") for band in BANDS} | {"pixel": lambda x: x}
    losses = denoising_losses(lambda x, sigma, condition: x, noisy, spaces)
    # A band holds a quarter of the elements, and losses are means over elements.
    torch.testing.assert_close(sum(losses[band] for band in BANDS), 4 * losses["pixel"])


def test_mistakes_are_explained(images):
    for arguments, message in [
        (("LX",), "LL, LH, HL, HH"),
        (("LL", "bior9"), "unknown wavelet 'bior9'"),
        (("LL", "morl"), "unknown wavelet 'morl'"),
        (("LL", "haar", "mirrored"), "symmetric"),
    ]:
        with pytest.raises(SkiptuneError, match=message):
            wavelet_space(*arguments)
    with pytest.raises(SkiptuneError, match="no gradients"):
        wavelet_space("LL")(images.clone().requires_grad_())
