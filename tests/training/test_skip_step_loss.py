"""S2-DM's loss: one network call, DDPM's loss at tau = 1, and the minimiser that its closed form says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.skip_step import SkipStep
from skiptune.training.losses import make_loss
from skiptune.training.losses.noise_prediction import NoisePredictionLoss, draw_times
from skiptune.training.losses.skip_step import SkipStepLoss

TIMES = 12
SCHEDULE = vp_alphas("linear", 1e-2, 0.3, TIMES)
VARIANCE = 0.25


class Table(nn.Module):
    """``eps(x_t, t) = table[t] x_t``: among the best for Gaussian images, one number at every time."""

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.table = nn.Parameter(torch.full((TIMES,), value))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        return self.table[t.long()].view(-1, 1, 1, 1) * x


def denoiser(value: float = 0.0) -> DiscreteDenoiser:
    return DiscreteDenoiser(Table(value), (1, 16, 16), SCHEDULE)


def gaussian_images(count: int) -> Tensor:
    return VARIANCE**0.5 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def gradient(loss: Tensor, model: DiscreteDenoiser, **options: bool) -> Tensor:
    return torch.autograd.grad(loss, model.get_parameter("model.table"), **options)[0]


READINGS: list[dict[str, Any]] = [
    {},
    {"weights": "algorithm1"},
    {"factor": "eq11"},
    {"alpha": "schedule"},
    {"early": "exclude"},
    {"early": "drop"},
    {"tau": 1.0},
]


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_trained_table_is_the_closed_form(reading: dict[str, Any]) -> None:
    reading = {"skip": 3, "tau": 0.6, **reading}
    model, images = denoiser(), gaussian_images(1500)
    loss = SkipStepLoss(**reading)(model, images, None, torch.Generator().manual_seed(0))
    # The loss is quadratic and every time has a number of its own: one step of Newton's method is all.
    slope = gradient(loss, model, create_graph=True)
    curvature = gradient(slope.sum(), model)
    trained = (-slope / curvature).detach().double()
    # Of images N(0, v): E[n | x_t] = sqrt(1 - abar) / (abar v + 1 - abar) x_t.
    expected = SkipStep(**reading).minimiser(SCHEDULE) * (
        (1 - SCHEDULE).sqrt() / (SCHEDULE * VARIANCE + 1 - SCHEDULE)
    )
    first = SkipStep(**reading).first_time
    torch.testing.assert_close(trained[first:], expected[first:], rtol=0.02, atol=0)
    assert bool(trained[:first].isnan().all())  # never drawn: no slope, no curvature


def test_readings_that_the_test_above_tells_apart() -> None:
    scales = [SkipStep(**{"skip": 3, "tau": 0.6, **reading}).minimiser(SCHEDULE) for reading in READINGS]
    dropped = scales.pop(READINGS.index({"early": "drop"}))
    for one, two in itertools.combinations(scales, 2):
        assert float((one / two - 1).abs().max()) > 0.05
    assert torch.equal(dropped, scales[READINGS.index({"early": "exclude"})])  # which trains other times


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("summed", [False, True])
def test_tau_1_is_ddpms_loss_bit_for_bit(antithetic: bool, summed: bool) -> None:
    options = {"antithetic": antithetic, "summed": summed}
    images, model = gaussian_images(9), denoiser(0.3)
    for skipping in (SkipStepLoss(3, 1.0, **options), SkipStepLoss(3, 1.0, weights_only=True, **options)):
        ours = skipping(model, images, None, torch.Generator().manual_seed(2))
        plain = NoisePredictionLoss(**options)(model, images, None, torch.Generator().manual_seed(2))
        assert torch.equal(ours, plain)
        assert torch.equal(gradient(ours, model), gradient(plain, model))


@pytest.mark.parametrize("weights_only", [False, True])
def test_one_network_call_a_step(weights_only: bool) -> None:
    model = denoiser()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    model.model.register_forward_hook(count)
    SkipStepLoss(3, weights_only=weights_only)(model, gaussian_images(4), None, torch.Generator())
    assert calls == model.nfe == 1


def test_value_is_the_formula() -> None:
    images, model = gaussian_images(6), denoiser(0.4)
    value = SkipStepLoss(3, 0.6)(model, images, None, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    times = torch.randint(TIMES, (6,), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    total = 0.0
    for i, time in enumerate(times.tolist()):
        abar, before = float(SCHEDULE[time]), float(SCHEDULE[time - 3]) if time >= 3 else 1.0
        c = ((1 - abar / before) / (abar / before)) ** 0.5
        eps = 0.4 * (abar**0.5 * images[i].double() + (1 - abar) ** 0.5 * noise[i].double())
        plain, skipping = (noise[i] - eps).square().mean(), (noise[i] - c * eps).square().mean()
        total += float(0.6 * plain + 0.4 * skipping) / 6
    assert value.item() == pytest.approx(total, rel=1e-4)


def test_terms_are_those_of_the_loss() -> None:
    images, model, loss = gaussian_images(8), denoiser(0.4), SkipStepLoss(3, 0.6)
    times, plain, skipping = loss.terms(model, images, None, torch.Generator().manual_seed(3))
    value = loss(model, images, None, torch.Generator().manual_seed(3))
    assert times.shape == (8,) and plain.shape == skipping.shape == images.shape
    torch.testing.assert_close(0.6 * plain.mean() + 0.4 * skipping.mean(), value)
    assert skipping.mean().item() != pytest.approx(plain.mean().item(), rel=0.05)


def test_weights_only_differ_from_the_loss_in_the_scaling_alone() -> None:
    """The gradient of the loss is that of its weights with ``s_t n`` for the noise."""
    images, model, reading = gaussian_images(500), denoiser(0.4), {"skip": 3, "tau": 0.6}
    whole = SkipStepLoss(**reading)
    times, plain, _ = whole.terms(model, images, None, torch.Generator().manual_seed(4))
    weights = whole.loss_weights(SCHEDULE)[times].float().view(-1, 1, 1, 1)
    value = SkipStepLoss(**reading, weights_only=True)(model, images, None, torch.Generator().manual_seed(4))
    torch.testing.assert_close(value, (weights * plain).mean())

    table = gradient(whole(model, images, None, torch.Generator().manual_seed(4)), model)
    generator = torch.Generator().manual_seed(4)
    drawn = torch.randint(TIMES, (500,), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    abar = SCHEDULE[drawn].float().view(-1, 1, 1, 1)
    eps = model.model(abar.sqrt() * images + (1 - abar).sqrt() * noise, drawn, None)
    scale = whole.minimiser(SCHEDULE)[drawn].float().view(-1, 1, 1, 1)
    parabola = gradient((weights * (eps - scale * noise).square()).mean(), model)
    torch.testing.assert_close(table, parabola, rtol=1e-3, atol=1e-5)


def test_summed_is_the_mean_times_the_elements_of_an_image() -> None:
    images, model = gaussian_images(5), denoiser(0.3)
    mean, total = (
        SkipStepLoss(3, summed=summed)(model, images, None, torch.Generator().manual_seed(2))
        for summed in (False, True)
    )
    torch.testing.assert_close(total, 256 * mean)


class TestTimes:
    @pytest.mark.parametrize("count", [1, 2, 7, 8])
    def test_antithetic_times_are_half_drawn_and_mirrored(self, count: int) -> None:
        found = draw_times(count, 0, 1000, True, torch.Generator().manual_seed(5))
        half = torch.randint(0, 1000, (count // 2 + 1,), generator=torch.Generator().manual_seed(5))
        assert found.tolist() == [*half.tolist(), *(999 - t for t in half.tolist())][:count]

    @pytest.mark.parametrize("antithetic", [False, True])
    def test_all_times_from_the_first_are_drawn_alike(self, antithetic: bool) -> None:
        counts = draw_times(20_000, 4, 24, antithetic, torch.Generator().manual_seed(5)).bincount(
            minlength=24
        )
        assert counts[:4].sum() == 0 and len(counts) == 24
        assert counts[4:].min() > 850 and counts[4:].max() < 1150

    def test_loss_excludes_early_times(self) -> None:
        loss = SkipStepLoss(5, early="exclude", antithetic=True)
        times, _, _ = loss.terms(denoiser(), gaussian_images(400), None, torch.Generator())
        assert (int(times.min()), int(times.max())) == (4, TIMES - 1)


def test_settings_of_the_loss() -> None:
    loss = make_loss({"name": "skip_step", "skip": 50, "tau": 0.9, "antithetic": True, "summed": True})
    assert loss == SkipStepLoss(50, 0.9, antithetic=True, summed=True)
    with pytest.raises(SkiptuneError, match="does not fit: .*skips"):
        make_loss({"name": "skip_step", "skips": 50})
    with pytest.raises(SkiptuneError, match="skip is 0, it must be a whole number"):
        make_loss({"name": "skip_step", "skip": 0})
