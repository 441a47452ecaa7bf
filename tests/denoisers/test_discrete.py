import pytest
import torch

from skiptune.denoisers.ddim import DDIMUNet
from skiptune.denoisers.discrete import ClassEmbedding, DiscreteDenoiser, vp_alphas
from skiptune.denoisers.uvit import UViT
from skiptune.errors import SkiptuneError

ALPHAS = vp_alphas("linear", 1e-4, 0.02)
TINY = {
    "ch": 32, "out_ch": 3, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "dropout": 0.0,
    "resamp_with_conv": True, "in_channels": 3, "image_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DDIMUNet(**TINY).eval().requires_grad_(False)


@pytest.fixture
def x():
    return 3 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def discrete(network, **options):
    return DiscreteDenoiser(network, (3, 8, 8), ALPHAS, **options)


@pytest.mark.parametrize("time", [0, 1, 137, 500, 998, 999])
def test_noise_prediction_at_every_time(time, network, x):
    denoiser = discrete(network)
    abar = ALPHAS[time]
    x_vp = x / x.square().mean().sqrt()
    eps = network(x_vp, torch.full((4,), time))
    expected = (x_vp - (1 - abar).sqrt() * eps) / abar.sqrt()
    estimate = denoiser((x_vp / abar.sqrt()).float(), denoiser.sigmas[time])
    assert estimate.dtype == torch.float32
    torch.testing.assert_close(
        estimate.double(), expected.double(), rtol=1e-5, atol=1e-5 * float(1 + denoiser.sigmas[time])
    )


@pytest.mark.parametrize("time", [0, 137, 999])
def test_velocity_prediction(time, network, x):
    abar = ALPHAS[time]
    v = network(x, torch.full((4,), time))
    expected = abar.sqrt() * x - (1 - abar).sqrt() * v
    denoiser = discrete(network, prediction="v")
    estimate = denoiser((x / abar.sqrt()).float(), denoiser.sigmas[time])
    torch.testing.assert_close(estimate.double(), expected.double(), rtol=1e-4, atol=1e-5)


def test_levels_are_those_of_the_schedule(network):
    denoiser = discrete(network)
    assert denoiser.num_timesteps == 1000
    assert denoiser.sigma_min == pytest.approx(0.010000500, rel=1e-6)
    assert denoiser.sigma_max == pytest.approx(157.407, rel=1e-5)
    torch.testing.assert_close(1 / (1 + denoiser.sigmas**2), ALPHAS)


def test_times_come_back_from_single_precision_levels(network):
    denoiser = discrete(network)
    times = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(denoiser.time(denoiser.sigmas.float()), times)
    assert denoiser.time(denoiser.sigmas.float().reshape(-1, 1, 1, 1)).shape == (1000, 1, 1, 1)


def test_between_times_the_logarithm_is_interpolated_and_beyond_it_is_held(network):
    denoiser = discrete(network)
    sigma = denoiser.sigmas
    middle = (sigma[400] * sigma[401]).sqrt()
    quarter = sigma[0] ** 0.75 * sigma[1] ** 0.25
    outside = torch.tensor([0.0, 1e-3, 1e4], dtype=torch.float64)
    found = denoiser.time(torch.cat([torch.stack([middle, quarter]), outside]))
    torch.testing.assert_close(found, torch.tensor([400.5, 0.25, 0.0, 0.0, 999.0], dtype=torch.float64))


def test_no_noise_leaves_the_image(network, x):
    assert torch.equal(discrete(network)(x, torch.tensor(0.0)), x)


def test_one_level_per_image(network, x):
    denoiser = discrete(network)
    levels = denoiser.sigmas[[3, 250, 500, 990]]
    mixed = denoiser(x, levels)
    for i, level in enumerate(levels):
        torch.testing.assert_close(mixed[i : i + 1], denoiser(x[i : i + 1], level), rtol=1e-5, atol=1e-3)
    assert denoiser.nfe == 5


def test_nearest_level(network):
    denoiser = discrete(network)
    sigma = denoiser.sigmas
    between = torch.stack([0.9 * sigma[7] + 0.1 * sigma[8], 0.1 * sigma[7] + 0.9 * sigma[8], sigma[999] + 50])
    assert torch.equal(denoiser.round_sigma(between), sigma[[7, 8, 999]])
    assert torch.equal(denoiser.round_sigma(sigma), sigma)
    single = denoiser.round_sigma(torch.tensor(2.0))
    assert single.shape == () and single.dtype == torch.float32


def test_times_may_be_counted_from_one(network, x):
    plain, later = discrete(network), discrete(network, first_time=1)
    sigma = plain.sigmas[500]
    assert float(later.time(sigma)) == 500
    expected = x - sigma.float() * network(x / (1 + sigma.float() ** 2).sqrt(), torch.full((4,), 501.0))
    torch.testing.assert_close(later(x, sigma), expected)
    assert (plain(x, sigma) - later(x, sigma)).abs().max() > 1e-6


def test_learned_variances_are_left_out(x):
    torch.manual_seed(0)
    wide = DDIMUNet(**{**TINY, "out_ch": 6}).eval().requires_grad_(False)
    denoiser = discrete(wide)
    sigma = denoiser.sigmas[500].float()
    expected = x - sigma * wide(x / (1 + sigma**2).sqrt(), torch.full((4,), 500.0))[:, :3]
    torch.testing.assert_close(denoiser(x, sigma), expected)


def test_labels_reach_the_network(x):
    torch.manual_seed(0)
    uvit = UViT(8, 2, 3, embed_dim=16, depth=2, num_heads=2, num_classes=4).eval().requires_grad_(False)
    denoiser = discrete(uvit, num_classes=4, first_time=1)
    labels = torch.tensor([0, 3, 1, 1])
    sigma = denoiser.sigmas[300].float()
    eps = uvit(x / (1 + sigma**2).sqrt(), torch.full((4,), 301.0), labels)
    torch.testing.assert_close(denoiser(x, sigma, torch.eye(4)[labels]), x - sigma * eps)
    assert denoiser(x, sigma, torch.eye(4)[2]).shape == x.shape


def test_class_tokens_are_rows_of_the_embedding():
    embedding = ClassEmbedding(5, 6)
    assert list(embedding.state_dict()) == ["embedding.weight"]
    labels = torch.tensor([4, 0, 2])
    tokens = embedding(torch.eye(5)[labels])
    assert tokens.shape == (3, 1, 6)
    torch.testing.assert_close(tokens[:, 0], embedding.embedding.weight[labels])


def test_schedule_survives_the_meta_device_and_half_precision(network, x):
    with torch.device("meta"):
        empty = DiscreteDenoiser(DDIMUNet(**TINY), (3, 8, 8), vp_alphas("linear", 1e-4, 0.02))
    assert not list(empty.buffers()) and empty.sigma_max == discrete(network).sigma_max
    empty.model.load_state_dict(network.state_dict(), assign=True)
    sigma = torch.tensor(3.0)
    assert torch.equal(empty.eval()(x, sigma), discrete(network)(x, sigma))
    assert empty.half().sigmas.dtype == torch.float64


def test_published_schedules():
    assert float(ALPHAS[0]) == pytest.approx(0.9999) and float(ALPHAS[-1]) == pytest.approx(
        4.0358e-5, rel=1e-4
    )
    latent = vp_alphas("scaled_linear", 0.0015, 0.0195)
    assert float(latent[0]) == pytest.approx(0.9985)
    stable = vp_alphas("scaled_linear", 0.00085, 0.012)
    assert float(stable[-1]) == pytest.approx(0.0046602, rel=1e-4)
    assert stable.dtype == torch.float64 and stable.shape == (1000,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: discrete(n, prediction="x0"), "choose one of epsilon, v"),
        (lambda n: DiscreteDenoiser(n, (3, 8, 8), ALPHAS.flip(0)), "must fall strictly inside"),
        (lambda n: DiscreteDenoiser(n, (3, 8, 8), torch.tensor([1.0, 0.5])), "must fall strictly inside"),
        (lambda n: DiscreteDenoiser(n, (3, 8, 8), torch.tensor([0.5])), "at least 2 times"),
        (lambda n: vp_alphas("cosine", 1e-4, 0.02), "choose linear, scaled_linear or linear_per_step"),
        (lambda n: vp_alphas("linear", 0.0, 0.02), "are no schedule"),
    ],
)
def test_wrong_arguments_are_explained(make, message, network):
    with pytest.raises(SkiptuneError, match=message):
        make(network)
