"""Epsilon scaling on denoisers, alone standing networks and diffusers, and through samplers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.denoisers import Denoiser
from skiptune.denoisers.ddim import DDIMUNet
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.errors import SkiptuneError
from skiptune.interventions import EpsilonScaling
from skiptune.interventions.build import attach_intervention, complete_settings
from skiptune.interventions.effect import effect
from skiptune.runtime.together import sample_together
from skiptune.samplers import make_sampler, sample
from skiptune.skip_step import SkipStep

ALPHAS = vp_alphas("linear", 1e-4, 0.02)
# A reading whose s_t is far from 1, so that mistakes show.
STRONG = SkipStep(10, 0.5)
NOISE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def denoiser() -> DiscreteDenoiser:
    torch.manual_seed(0)
    network = DDIMUNet(32, 3, [1, 2], 1, [4], 0.0, True, 3, 8)
    return DiscreteDenoiser(network, (3, 8, 8), ALPHAS).eval().requires_grad_(False)


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def test_neutral_setting_is_bit_identical(family: Any) -> None:
    untouched = family()
    with EpsilonScaling().attached_to(family.network):
        assert torch.equal(family(), untouched)


def test_factors_of_1_are_bit_identical_too(denoiser: DiscreteDenoiser) -> None:
    sigma = torch.tensor(3.0)
    untouched = denoiser(NOISE, sigma)
    for neutral in (EpsilonScaling(), EpsilonScaling(1.0, SkipStep(10, 1.0))):
        with neutral.attached_to(denoiser):
            assert torch.equal(denoiser(NOISE, sigma), untouched)
    with EpsilonScaling(1.0, SkipStep(10, 0.5, early="drop")).attached_to(denoiser):
        assert torch.equal(denoiser(NOISE, denoiser.sigmas[4]), plain(denoiser, NOISE, 4))  # a dropped time
        assert not torch.equal(denoiser(NOISE, denoiser.sigmas[40]), plain(denoiser, NOISE, 40))


def plain(denoiser: DiscreteDenoiser, x: Tensor, time: int) -> Tensor:
    """Without intervention: the network itself, in the denoiser's arithmetic."""
    sigma = denoiser.sigmas[time].float()
    eps = denoiser.model((1 / (1 + sigma**2).sqrt()) * x.float(), torch.full((len(x),), float(time)))
    return x.float() - sigma * eps


@pytest.mark.parametrize("time", [0, 7, 500, 999])
def test_a_step_of_ddim_by_hand(denoiser: DiscreteDenoiser, time: int) -> None:
    """S2-DMs, Eq. 6 with sigma_t = 0 and ``s_t eps`` in the place of eps."""
    before = max(time - 100, -1)
    abar, after = float(ALPHAS[time]), float(ALPHAS[before]) if before >= 0 else 1.0
    x_t = NOISE
    eps = float(STRONG.minimiser(ALPHAS)[time]) * denoiser.model(x_t.float(), torch.full((2,), time)).double()
    by_hand = after**0.5 * (x_t - (1 - abar) ** 0.5 * eps) / abar**0.5 + (1 - after) ** 0.5 * eps

    sigma, sigma_after = ((1 / level - 1) ** 0.5 for level in (abar, after))
    x = x_t / abar**0.5
    with EpsilonScaling(skip_step=STRONG).attached_to(denoiser):
        x0 = denoiser(x, torch.tensor(sigma)).double()
    ours = after**0.5 * (x0 + sigma_after / sigma * (x - x0))
    torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=2e-4)
    assert float((ours - (after / abar) ** 0.5 * x_t).abs().max()) > 1e-3  # the step does something


def test_through_the_sampler_it_is_ddim_with_scaled_noise(denoiser: DiscreteDenoiser) -> None:
    sampler = make_sampler("ddim", steps=5)
    scaling = EpsilonScaling(1.1, STRONG)
    with scaling.attached_to(denoiser):
        ours = sample(sampler, denoiser, NOISE)
    x, times = NOISE, [800, 600, 400, 200, 0]
    factors = 1.1 * STRONG.minimiser(ALPHAS)
    for time, after in zip(times, [*times[1:], -1], strict=True):
        abar, end = float(ALPHAS[time]), float(ALPHAS[after]) if after >= 0 else 1.0
        eps = float(factors[time]) * denoiser.model(x.float(), torch.full((2,), time)).double()
        x = end**0.5 * (x - (1 - abar) ** 0.5 * eps) / abar**0.5 + (1 - end) ** 0.5 * eps
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sample(sampler, denoiser, NOISE), x, atol=1e-2)


def test_every_image_has_the_factor_of_its_own_level(denoiser: DiscreteDenoiser) -> None:
    sigma = denoiser.sigmas[[3, 900]].float()
    x0 = denoiser(NOISE, sigma)
    with EpsilonScaling(skip_step=STRONG).attached_to(denoiser):
        scaled = denoiser(NOISE, sigma)
    expected = STRONG.minimiser(ALPHAS)[[3, 900]].view(2, 1, 1, 1)
    torch.testing.assert_close(NOISE - scaled, expected * (NOISE - x0), rtol=1e-3, atol=1e-4)


def test_detaches_always_and_multiplies(denoiser: DiscreteDenoiser) -> None:
    sigma = torch.tensor(2.0)
    untouched, before = denoiser(NOISE, sigma), hooks(denoiser)
    with EpsilonScaling(1.2).attached_to(denoiser), EpsilonScaling(0.9).attached_to(denoiser):
        twice = denoiser(NOISE, sigma)
    torch.testing.assert_close(NOISE - twice, 1.08 * (NOISE - untouched), rtol=1e-4, atol=1e-5)
    with pytest.raises(KeyError), EpsilonScaling(1.2).attached_to(denoiser):
        raise KeyError
    with pytest.raises(SkiptuneError, match="images have shape"), EpsilonScaling(1.2).attached_to(denoiser):
        denoiser(NOISE[:, :2], sigma)
    assert hooks(denoiser) == before and torch.equal(denoiser(NOISE, sigma), untouched)


def test_counts_as_no_evaluation(denoiser: DiscreteDenoiser) -> None:
    denoiser.nfe = 0
    with EpsilonScaling(1.2).attached_to(denoiser):
        denoiser(NOISE, sigma=torch.tensor(2.0))
    assert denoiser.nfe == 1


def test_guided_and_latent_model(denoiser: DiscreteDenoiser) -> None:
    guided = ClassifierFreeGuidance(load_desk_denoiser("ldm_glyphs").denoiser, 2.0)
    x, sigma = torch.randn(2, 4, 8, 8), guided.model.alphas_cumprod[300:301].rsqrt().float()
    condition = torch.eye(26)[:2]
    x0 = guided(x, sigma, condition)
    with EpsilonScaling(skip_step=STRONG).attached_to(guided):
        scaled = guided(x, sigma, condition)
    inner = guided.model.model
    assert isinstance(inner, DiscreteDenoiser)
    time = float(inner.time(sigma.double()))
    s = STRONG.minimiser(inner.alphas_cumprod)
    expected = torch.lerp(s[int(time)], s[int(time) + 1], time - int(time))
    torch.testing.assert_close(x - scaled, float(expected) * (x - x0), rtol=1e-4, atol=1e-5)


def test_denoiser_without_discrete_times_takes_ddpms() -> None:
    denoiser = load_desk_denoiser("edm_digits_uncond").denoiser
    x, sigma = torch.randn(2, 1, 8, 8), (1 / ALPHAS[700] - 1).sqrt()
    x0 = denoiser(x, sigma)
    with EpsilonScaling(skip_step=STRONG).attached_to(denoiser):
        scaled = denoiser(x, sigma)
    torch.testing.assert_close(x - scaled, float(STRONG.minimiser(ALPHAS)[700]) * (x - x0))
    with EpsilonScaling(skip_step=STRONG).attached_to(denoiser, vp_alphas("scaled_linear", 8.5e-4, 0.012)):
        assert not torch.allclose(denoiser(x, sigma), scaled)


class TestNetworksAlone:
    """Networks of (x_t, t) are taken to predict the noise."""

    def test_network_of_ours(self, denoiser: DiscreteDenoiser) -> None:
        network, t = denoiser.model, torch.tensor([10, 990])
        x = NOISE.float()
        untouched = network(x, t)
        with EpsilonScaling(skip_step=STRONG).attached_to(network):
            scaled = network(x, t)
        expected = STRONG.minimiser(ALPHAS)[t].float().view(2, 1, 1, 1) * untouched
        torch.testing.assert_close(scaled, expected)

    @pytest.mark.parametrize("as_tuple", [False, True])
    def test_diffusers(self, as_tuple: bool) -> None:
        models = pytest.importorskip("diffusers", reason="diffusers is not installed")
        torch.manual_seed(0)
        unet = models.UNet2DModel(
            8, 3, 3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        ).eval()  # fmt: skip
        scheduler = models.DDIMScheduler(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=0.012)

        def run() -> Tensor:
            output = unet(NOISE.float(), torch.tensor(700), return_dict=not as_tuple)
            return output[0] if as_tuple else output.sample

        with torch.no_grad():
            untouched = run()
            with EpsilonScaling(1.05, STRONG).attached_to(unet, scheduler.alphas_cumprod):
                scaled = run()
            assert torch.equal(run(), untouched)
        factor = 1.05 * float(STRONG.minimiser(scheduler.alphas_cumprod)[700])
        torch.testing.assert_close(scaled, factor * untouched)

    def test_learned_variances_and_half_precision(self) -> None:
        class Network(nn.Module):
            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                return torch.cat([x, x], dim=1)

        x = torch.full((1, 3, 2, 2), 1000.0, dtype=torch.float16)
        with EpsilonScaling(1.0012).attached_to(network := Network()):
            scaled = network(x, torch.tensor(5))
        assert scaled.dtype == torch.float16
        assert scaled[0, :, 0, 0].tolist() == [1001.0] * 3 + [1000.0] * 3  # 1.0012 in half is 1.0010

    def test_what_predicts_no_noise_is_refused(self, denoiser: DiscreteDenoiser) -> None:
        edm = load_desk_denoiser("edm_digits_uncond").denoiser
        for network in (nn.Linear(2, 2), edm.get_submodule("model")):
            with (
                pytest.raises(SkiptuneError, match="called neither with sigma nor with a time"),
                EpsilonScaling(1.1).attached_to(network),
            ):
                pass
        with (
            pytest.raises(SkiptuneError, match="of a diffusers pipeline give the U-Net, pipe.unet"),
            EpsilonScaling(1.1).attached_to(object()),  # type: ignore[arg-type]
        ):
            pass

    def test_network_compiled_before_is_refused(self, denoiser: DiscreteDenoiser) -> None:
        class Past(nn.Module):
            def __init__(self, inner: nn.Module):
                super().__init__()
                self.module = inner

            def forward(self, *args: Any) -> Any:
                return self.module.forward(*args)

        past = Past(denoiser)
        with (
            pytest.raises(
                SkiptuneError, match="Past did not call its DiscreteDenoiser.*compile a network after"
            ),
            EpsilonScaling(1.1).attached_to(past),
        ):
            past(NOISE, torch.tensor(2.0))


class TestSettings:
    def test_settings_make_the_intervention(self, denoiser: DiscreteDenoiser) -> None:
        sigma = torch.tensor(2.0)
        with EpsilonScaling(1.1, SkipStep(50, 0.5, "algorithm1", "schedule", "drop", "eq11")).attached_to(
            denoiser
        ):
            expected = denoiser(NOISE, sigma)
        reading = {"weights": "algorithm1", "alpha": "schedule", "early": "drop", "factor": "eq11"}
        settings = {"name": "epsilon_scaling", "scale": 1.1, "skip": 50, "tau": 0.5, **reading}
        with attach_intervention(settings, denoiser, ()):
            assert torch.equal(denoiser(NOISE, sigma), expected)
        assert not torch.equal(denoiser(NOISE, sigma), expected)

    def test_settings_are_canonical_and_told_apart(self) -> None:
        acting = {"name": "epsilon_scaling", "scale": 1, "skip": 10}
        assert type(complete_settings(acting)["scale"]) is float
        keys = {effect({**acting, "skip": skip}, (), (1.0,)) for skip in (2, 10)}
        assert len(keys) == 2 and None not in keys

    @pytest.mark.parametrize(
        ("settings", "line"),
        [
            ({"scale": 0}, "scale of the predicted noise is 0.0, it must be a positive number"),
            ({"scale": None}, "scale of the predicted noise is None"),
            ({"scale": "1"}, "scale is '1', it must be a number"),
            ({"skip": 2.5}, "skip is 2.5, it must be a whole number from 1"),
            ({"tau": 2}, r"tau is 2.0, it must be a number in \[0, 1\]"),
            ({"factor": "eq13"}, "unknown factor 'eq13' of the skip-step loss; choose one of eq12, eq11"),
            ({"rho": 1}, "has no setting rho; it has scale, skip, tau, weights, alpha, early, factor"),
        ],
    )
    def test_mistakes_are_one_line(self, settings: dict[str, Any], line: str) -> None:
        with pytest.raises(SkiptuneError, match=line) as caught:
            complete_settings({"name": "epsilon_scaling", **settings})
        assert "\n" not in str(caught.value)

    def test_sampled_together_it_has_the_bits_of_separate_runs(self, denoiser: Denoiser) -> None:
        conditions = [
            {"name": "none"},
            {"name": "epsilon_scaling", "skip": 10, "tau": 0.5},
            {"name": "epsilon_scaling", "scale": 1.01},
            {"name": "epsilon_scaling"},
        ]
        sampler = make_sampler("ddim", steps=4)
        together = sample_together(sampler, denoiser, conditions, NOISE)
        apart = [sample_together(sampler, denoiser, [condition], NOISE)[0] for condition in conditions]
        for (x, calls), (expected, expected_calls) in zip(together, apart, strict=True):
            assert torch.equal(x, expected) and calls == expected_calls == 4
        assert torch.equal(together[0][0], together[3][0])
        assert not torch.equal(together[0][0], together[1][0])
