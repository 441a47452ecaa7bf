"""U-Nets of diffusers as denoisers: trajectories of diffusers' own schedulers, guidance, interventions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from skiptune.denoisers.diffusers_network import DiffusersAutoencoder, DiffusersNetwork, Prompted
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, TimeSchedule, Window, find_skip_sites, record_skip_norms
from skiptune.samplers import DDIM, Euler, Levels, make_sampler, sample
from skiptune.samplers.discrete_grids import Timesteps

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

BETAS = (0.00085, 0.012)
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": BETAS[0], "beta_end": BETAS[1]}


def tiny(cls: str = "UNet2DConditionModel", **options: Any) -> Any:
    """A U-Net of three levels with random weights."""
    torch.manual_seed(0)
    cross = cls == "UNet2DConditionModel"
    down = ["CrossAttnDownBlock2D", "DownBlock2D"] if cross else ["DownBlock2D", "DownBlock2D"]
    up = ["UpBlock2D", "CrossAttnUpBlock2D"] if cross else ["UpBlock2D", "UpBlock2D"]
    if cross:
        options = {"cross_attention_dim": 12, **options}
    network = getattr(diffusers, cls)(
        8, 4, 4, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=4,
        down_block_types=down, up_block_types=up, **options,
    )  # fmt: skip
    return network.eval().requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(unet: Any, prediction: str = "epsilon") -> DiscreteDenoiser:
    network = DiffusersNetwork(unet)
    alphas = vp_alphas("scaled_linear", *BETAS)
    return DiscreteDenoiser(network, (4, 8, 8), alphas, network.num_classes, prediction).eval()


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny()


@pytest.fixture(scope="module")
def prompt() -> dict[str, Tensor]:
    return {"context": normal(1, 5, 12, seed=2)}


@pytest.fixture(scope="module")
def nothing() -> dict[str, Tensor]:
    return {"context": normal(1, 5, 12, seed=3)}


def run_scheduler(scheduler: Any, predict: Any, noise: Tensor, steps: int) -> Tensor:
    """The pipelines' loop."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_ddim_trajectory_is_that_of_diffusers(
    unet: Any, prompt: dict[str, Tensor], nothing: dict[str, Tensor], prediction: str, scale: float
) -> None:
    noise = normal(2, 4, 8, 8)
    tokens, empty = prompt["context"].expand(2, -1, -1), nothing["context"].expand(2, -1, -1)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        without, with_prompt = unet(torch.cat([x, x]), t, torch.cat([empty, tokens])).sample.chunk(2)
        return without + scale * (with_prompt - without)

    scheduler = diffusers.DDIMScheduler(
        **SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction
    )
    reference = run_scheduler(scheduler, predict, noise, 5)
    ours = denoiser(unet, "v" if prediction == "v_prediction" else "epsilon")
    guided = Prompted(ours, prompt, nothing, scale)
    sampler = make_sampler("ddim", steps=5, offset=1, end="first")
    assert isinstance(sampler, DDIM)
    x = sample(sampler, guided, noise)
    assert guided.nfe == (5 if scale == 1 else 10)
    # The scheduler ends at abar_0 in variance-preserving scaling, as does `finish`.
    torch.testing.assert_close(x.float(), reference, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("steps", "times"), [(1, (999,)), (2, (999, 499)), (3, (999, 666, 332)), (4, (999, 749, 499, 249))]
)
def test_trailing_times_are_those_of_diffusers(steps: int, times: tuple[int, ...]) -> None:
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert tuple(scheduler.timesteps.tolist()) == times
    assert Timesteps(steps, "trailing", end="first").times(1000)[::-1] == times


@pytest.mark.parametrize("steps", [10, 15, 20])
def test_leading_times_are_those_of_diffusers(steps: int) -> None:
    scheduler = diffusers.DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    times = Timesteps(steps, "leading", offset=1, end="first").times(1000)
    assert list(times[::-1]) == scheduler.timesteps.tolist() and len(times) == steps


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_ddim_of_the_turbo_models(unet: Any, prompt: dict[str, Tensor], steps: int) -> None:
    """Of 3 steps diffusers' second one ends at time 333, where its third is called with 332: 0.9% apart."""
    noise, tokens = normal(2, 4, 8, 8), prompt["context"].expand(2, -1, -1)
    scheduler = diffusers.DDIMScheduler(
        **SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="trailing"
    )
    # In float64: at time 999 the prediction is divided by 0.07, and with it what float32 has rounded.
    scheduler.alphas_cumprod = vp_alphas("scaled_linear", *BETAS)
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return unet(x.float(), t, tokens).sample.double()

    reference = run_scheduler(scheduler, predict, noise.double(), steps)
    sampler = make_sampler("ddim", steps=steps, spacing="trailing", end="first")
    x = sample(sampler, Prompted(denoiser(unet), prompt), noise)
    torch.testing.assert_close(x, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_euler_trajectory_is_that_of_diffusers(
    unet: Any, prompt: dict[str, Tensor], prediction: str, spacing: str
) -> None:
    """`linspace` visits fractional times; `trailing` are those of the Turbo models."""
    noise, tokens = normal(2, 4, 8, 8), prompt["context"].expand(2, -1, -1)
    scheduler = diffusers.EulerDiscreteScheduler(
        **SCHEDULE, prediction_type=prediction, timestep_spacing=spacing
    )
    reference = run_scheduler(scheduler, lambda x, t: unet(x, t, tokens).sample, noise, 4)
    ours = Prompted(denoiser(unet, "v" if prediction == "v_prediction" else "epsilon"), prompt)
    sigmas = scheduler.sigmas.double()
    x = noise.double() * scheduler.init_noise_sigma
    for sigma, after in zip(sigmas, sigmas[1:], strict=False):
        x = x + (after - sigma) * (x - ours(x, sigma).double()) / sigma
    torch.testing.assert_close(x.float(), reference, rtol=2e-3, atol=2e-3)
    if spacing == "trailing":  # whole times, so our own sampler visits the same levels
        levels = [min(float(sigma), ours.sigma_max) for sigma in sigmas]
        own = sample(Euler(Levels(tuple(levels))), ours, noise * scheduler.init_noise_sigma / levels[0])
        torch.testing.assert_close(own.float(), x.float(), rtol=2e-3, atol=2e-3)


def test_sdxl_inputs() -> None:
    network = tiny(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=30
    )
    added = {"text_embeds": normal(1, 6), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    x, tokens, t = normal(2, 4, 8, 8), normal(1, 5, 12), torch.tensor([10.0, 500.0])
    ours = DiffusersNetwork(network)(x, t, context=tokens, **added)
    twice = {key: value.expand(2, -1) for key, value in added.items()}
    reference = network(x, t, tokens.expand(2, -1, -1), added_cond_kwargs=twice).sample
    torch.testing.assert_close(ours, reference)
    with pytest.raises(SkiptuneError, match="conditioned on text: give prompts .text_embeds, time_ids.$"):
        DiffusersNetwork(network)(x, t, context=tokens)
    with pytest.raises(SkiptuneError, match="a prompt of 3 rows for 2 images: give 1 or 2"):
        DiffusersNetwork(network)(x, t, context=normal(3, 5, 12), **added)


def test_half_precision_weights(unet: Any, prompt: dict[str, Tensor]) -> None:
    half = DiffusersNetwork(tiny().to(torch.bfloat16))
    x, t = normal(2, 4, 8, 8), torch.tensor(300.0)
    out = half(x, t, **prompt)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, DiffusersNetwork(unet)(x, t, **prompt), rtol=0.2, atol=0.05)


def test_class_conditional_network_and_its_guidance() -> None:
    theirs = tiny("UNet2DModel", num_class_embeds=5)
    x, t, labels = normal(2, 4, 8, 8), torch.tensor([30.0, 600.0]), torch.tensor([4, 1])
    reference = theirs(x, t, class_labels=labels).sample
    names = {name: value.shape for name, value in theirs.state_dict().items()}
    ours = denoiser(theirs)
    assert {name: value.shape for name, value in theirs.state_dict().items()} == names
    assert ours.num_classes == 5
    rows = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(ours.model(x, t, rows), reference)
    sigma = torch.tensor(2.0)
    with_class, without = ours(x, sigma, rows), ours(x, sigma)
    guided = ClassifierFreeGuidance(ours, 3.0)
    torch.testing.assert_close(guided(x, sigma, rows), without + 3 * (with_class - without))
    assert (with_class - without).abs().max() > 1e-4 and guided.nfe == 2


def test_unconditional_network() -> None:
    theirs = tiny("UNet2DModel")
    x, t = normal(2, 4, 8, 8), torch.tensor(30.0)
    assert torch.equal(DiffusersNetwork(theirs)(x, t), theirs(x, t).sample)
    with pytest.raises(SkiptuneError, match="the network takes no context$"):
        DiffusersNetwork(theirs)(x, t, context=normal(1, 5, 12))


def test_refused_networks_and_guidance(unet: Any, prompt: dict[str, Tensor]) -> None:
    with pytest.raises(SkiptuneError, match="embeds timestep as class, not labels"):
        DiffusersNetwork(tiny("UNet2DModel", class_embed_type="timestep"))
    with pytest.raises(SkiptuneError, match="conditioned on text: give prompts .context.$"):
        denoiser(unet)(normal(1, 4, 8, 8), torch.tensor(1.0))
    with pytest.raises(SkiptuneError, match="guidance 2.0 needs context of no prompt"):
        Prompted(denoiser(unet), prompt, None, 2.0)


def test_latents_are_decoded_as_by_the_pipeline(unet: Any, prompt: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, scaling_factor=0.13025,
    ).eval()  # fmt: skip
    autoencoder = DiffusersAutoencoder(vae)
    ours = LatentDenoiser(Prompted(denoiser(unet), prompt), autoencoder, autoencoder.scale)
    latents, images = normal(2, 4, 8, 8), normal(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(ours.decode(latents), vae.decode(latents / 0.13025).sample)
        torch.testing.assert_close(ours.encode(images), 0.13025 * vae.encode(images).latent_dist.mean)


def test_skip_tuning_with_a_schedule_and_norms(
    unet: Any, prompt: dict[str, Tensor], nothing: dict[str, Tensor]
) -> None:
    guided = Prompted(denoiser(unet), prompt, nothing, 5.0)
    x, low, high = normal(2, 4, 8, 8), torch.tensor(0.5), torch.tensor(9.0)
    untouched = guided(x, low), guided(x, high)
    assert len(find_skip_sites(guided)) == 4
    with SkipTuning.interpolated(0.5).attached_to(guided):
        tuned = guided(x, low)
    with SkipTuning.interpolated(0.5, schedules=(Window(0.1, 1.0),)).attached_to(guided):
        assert torch.equal(guided(x, low), tuned) and torch.equal(guided(x, high), untouched[1])
    with SkipTuning.interpolated(0.5, schedules=(TimeSchedule("increasing", (14.0, 0.5)),)).attached_to(
        guided
    ):
        assert torch.equal(guided(x, low), tuned)
        assert not torch.equal(guided(x, high), untouched[1])
    assert not torch.equal(tuned, untouched[0])
    with record_skip_norms(guided) as norms:
        assert torch.equal(guided(x, low), untouched[0])
    proportions = norms.proportions()  # prop_i, of every site
    assert proportions.shape == (4,) and bool((proportions > 0).all())
    assert len(norms.u) == 1 and norms.u[0].shape == (4, 4)  # guidance doubles the batch
