"""Losses of denoisers whose loss is known: the identity, and the posterior mean of Gaussian data."""

import math

import pytest
import torch

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation import load_extractor
from skiptune.evaluation.denoising_losses import (
    denoising_losses,
    edm_weight,
    feature_space,
    measure_losses,
    noisy_as_in_training,
    noisy_at,
    pixel_space,
    space_loss,
)
from skiptune.evaluation.wavelets import BANDS, wavelet_space
from skiptune.interventions import SkipTuning

MEAN, STD, SHAPE = 0.2, 0.5, (1, 8, 8)


def posterior_mean(x, sigma, condition=None):
    """The denoiser of data N(MEAN, STD^2 I)."""
    gain = STD**2 / (STD**2 + sigma.reshape(-1, 1, 1, 1) ** 2)
    return MEAN + gain * (x - MEAN)


def identity(x, sigma, condition=None):
    return x


def gaussian_images(count):
    generator = torch.Generator().manual_seed(5)
    return MEAN + STD * torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def glyph_images(count):
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")


def expect(losses, value, elements):
    """The mean of chi-squared losses, within four standard errors of its known expectation."""
    error = value * math.sqrt(2 / (len(losses) * elements))
    assert float(losses.mean()) == pytest.approx(value, abs=4 * error)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_the_identity_loses_exactly_the_noise(sigma):
    images = gaussian_images(20)
    noisy = noisy_at(images, range(20), sigma)
    losses = measure_losses(identity, noisy, {"pixel": pixel_space})["pixel"]
    power = noisy.noise.square().flatten(1).mean(1)
    torch.testing.assert_close(losses, sigma**2 * power, rtol=1e-9, atol=0)
    expect(losses, sigma**2, 64)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 2.5, 80.0])
def test_gaussian_posterior_mean_has_the_posterior_variance(sigma):
    """Per element var = s^2 sigma^2 / (s^2 + sigma^2): in pixels, orthonormal bands and a linear feature."""
    count = 1500
    weights = torch.randn(6, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spaces = {
        "pixel": pixel_space,
        "feature": lambda images: images.flatten(1) @ weights.T,
        **{band: wavelet_space(band, "haar") for band in BANDS},
    }
    losses = measure_losses(posterior_mean, noisy_at(gaussian_images(count), range(count), sigma), spaces)
    variance = STD**2 * sigma**2 / (STD**2 + sigma**2)
    assert all(loss.shape == (count,) and loss.dtype == torch.float64 for loss in losses.values())
    expect(losses["pixel"], variance, 64)
    for band in BANDS:
        expect(losses[band], variance, 16)
    gram = weights @ weights.T
    error = math.sqrt(2 * float(gram.square().sum()) / count) / float(gram.trace())
    expected = variance * float(gram.trace()) / 6
    assert float(losses["feature"].mean()) == pytest.approx(expected, rel=4 * error)


def test_edm_weight_makes_the_best_loss_of_gaussian_data_one():
    """(sigma^2 + s^2) / (sigma s)^2 times the posterior variance is 1 at every level."""
    count = 500
    noisy = noisy_as_in_training(gaussian_images(count), range(count))
    logs = noisy.sigma.log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=4 * 1.2 / math.sqrt(count))
    assert float(logs.std()) == pytest.approx(1.2, abs=4 * 1.2 / math.sqrt(2 * count))
    losses = measure_losses(posterior_mean, noisy, {"pixel": pixel_space})["pixel"]
    expect(edm_weight(noisy.sigma, STD) * losses, 1.0, 64)
    assert float(losses.std() / losses.mean()) > 0.5  # the unweighted ones differ by level


def test_noise_belongs_to_seed_and_draw():
    images = gaussian_images(6)
    whole = noisy_as_in_training(images, range(6))
    part = noisy_as_in_training(images[[4, 1]], [4, 1])
    assert torch.equal(part.noise, whole.noise[[4, 1]]) and torch.equal(part.sigma, whole.sigma[[4, 1]])
    assert torch.equal(noisy_at(images, range(6), 0.1).noise, noisy_at(images, range(6), 9.0).noise)
    other = noisy_as_in_training(images, range(6), draw=1)
    assert not torch.equal(other.noise, whole.noise) and not torch.equal(other.sigma, whole.sigma)
    # The level says nothing about the noise.
    many = noisy_as_in_training(gaussian_images(2000), range(2000))
    pair = torch.stack([many.sigma.log(), many.noise[:, 0, 0, 0]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / math.sqrt(2000)


@pytest.fixture(scope="module")
def desk():
    return load_desk_denoiser("edm_glyphs").denoiser


def test_desk_model_under_skip_tuning_is_paired(desk):
    images, seeds = glyph_images(8), range(8)
    condition = torch.eye(desk.num_classes)[:8]
    names = ("glyphs_cnn", "glyphs_resnet", "glyphs_vit")
    spaces = {"pixel": pixel_space, **{name: feature_space(load_extractor(name)) for name in names}}
    noisy = noisy_at(images, seeds, 0.5, condition)
    plain = measure_losses(desk, noisy, spaces)
    assert all(
        torch.equal(plain[name], losses) for name, losses in measure_losses(desk, noisy, spaces).items()
    )
    with SkipTuning.interpolated(0.8).attached_to(desk):
        tuned = measure_losses(desk, noisy, spaces)
    assert all((tuned[name] != plain[name]).all() for name in spaces)
    smaller = measure_losses(desk, noisy, spaces, micro_batch=3)
    for name in spaces:
        torch.testing.assert_close(smaller[name], plain[name], rtol=1e-3, atol=1e-7)


def test_feature_space_sees_what_uint8_would_hide(desk):
    space = feature_space(load_extractor("glyphs_cnn"))
    images = glyph_images(4)
    assert float(space_loss(space, images + 1e-4, images).max()) > 0
    exact = (torch.arange(256).repeat(9)[: 3 * 16 * 16].reshape(1, 3, 16, 16)).to(torch.uint8)
    features = load_extractor("glyphs_cnn")(exact)["features"]
    torch.testing.assert_close(space(exact / 127.5 - 1), features, rtol=1e-4, atol=1e-5)


def test_loss_is_differentiable_to_the_coefficients(desk):
    """What fine-tuning of rho needs: a gradient that agrees with a difference quotient."""
    noisy = noisy_at(glyph_images(2), range(2), 1.0, torch.eye(desk.num_classes)[:2])
    spaces = {"feature": feature_space(load_extractor("glyphs_cnn"))}

    def loss(scale):
        def scaled(x, sigma, condition):
            return scale * desk(x, sigma, condition)

        return denoising_losses(scaled, noisy, spaces)["feature"].mean()

    scale = torch.tensor(0.9, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(scale), scale)
    with torch.no_grad():
        quotient = (loss(torch.tensor(0.91)) - loss(torch.tensor(0.89))) / 0.02
    assert float(gradient) == pytest.approx(float(quotient), rel=0.05)


def test_mistakes_are_explained(desk):
    images = gaussian_images(3)
    with pytest.raises(SkiptuneError, match="2 seeds for 3 images"):
        noisy_at(images, range(2), 1.0)
    with pytest.raises(SkiptuneError, match="glyphs_cnn.*got"):
        feature_space(load_extractor("glyphs_cnn"))(images)
    with pytest.raises(SkiptuneError, match="micro_batch"):
        measure_losses(identity, noisy_at(images, range(3), 1.0), {"pixel": pixel_space}, micro_batch=0)
