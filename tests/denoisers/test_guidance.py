import pytest
import torch
from torch import nn

from skiptune.denoisers.autoencoders import KLAutoencoder
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.guidance import Autoguidance, ClassifierFreeGuidance
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.denoisers.preconditioning import EDMPrecond
from skiptune.denoisers.uvit import UViT
from skiptune.errors import SkiptuneError

SIGMA = torch.tensor(2.5)
SMALL_KL = {
    "embed_dim": 3,
    "ddconfig": {
        "double_z": True, "z_channels": 3, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip


def transformer(classes, seed=0):
    torch.manual_seed(seed)
    uvit = UViT(8, 2, 3, embed_dim=16, depth=2, num_heads=2, num_classes=classes or -1)
    with torch.no_grad():
        for parameter in uvit.parameters():
            parameter.normal_(std=0.3)
    alphas = vp_alphas("scaled_linear", 0.00085, 0.012)
    denoiser = DiscreteDenoiser(uvit, (3, 8, 8), alphas, classes, first_time=1)
    return denoiser.eval().requires_grad_(False)


@pytest.fixture
def x():
    return 2.5 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels():
    return torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize("scale", [-1.0, 0.4, 1.4, 3.0])
@pytest.mark.parametrize("null", [3, 0])
def test_guidance_is_that_of_the_noise_predictions(scale, null, x, labels):
    denoiser = transformer(4)
    guided = ClassifierFreeGuidance(denoiser, scale, null)
    assert guided.num_classes == 3
    own = labels + (null == 0)  # the classes that are left keep their order
    time = denoiser.time(SIGMA) + 1
    cond, uncond = (
        denoiser.model(x / (1 + SIGMA**2).sqrt(), time.float().reshape(1), condition)
        for condition in (own, torch.full((4,), null))
    )
    eps = uncond + scale * (cond - uncond)
    torch.testing.assert_close(guided(x, SIGMA, torch.eye(3)[labels]), x - SIGMA * eps, rtol=1e-5, atol=2e-5)


def test_null_row_of_zeros(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    x, sigma, labels = io["x"][2], io["sigmas"][2], io["class_labels"]
    guided = ClassifierFreeGuidance(denoiser, 2.0)
    assert guided.num_classes == denoiser.num_classes
    cond, uncond = denoiser(x, sigma, labels), denoiser(x, sigma)
    torch.testing.assert_close(guided(x, sigma, labels), 2 * cond - uncond, rtol=1e-4, atol=1e-4)
    assert (cond - uncond).abs().max() > 1e-3


def test_no_condition_is_the_null_class(x):
    denoiser = transformer(4)
    expected = denoiser(x, SIGMA, torch.eye(4)[3])
    for scale in (0.0, 1.0, 3.0):
        torch.testing.assert_close(
            ClassifierFreeGuidance(denoiser, scale, 3)(x, SIGMA), expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(("scale", "nfe", "batch"), [(3.0, 2, 8), (1.0, 1, 4), (0.0, 1, 4)])
def test_nfe_is_network_evaluations_per_image(scale, nfe, batch, x, labels):
    denoiser = transformer(4)
    guided = ClassifierFreeGuidance(denoiser, scale, 3)
    sizes = []
    handle = denoiser.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    guided(x, SIGMA, torch.eye(3)[labels])
    guided(x, SIGMA, torch.eye(3)[labels])
    handle.remove()
    assert guided.nfe == 2 * nfe and sizes == [batch, batch]
    guided.nfe = 0
    LatentDenoiser(guided, nn.Identity())(x, SIGMA)
    assert guided.nfe == nfe
    latent = LatentDenoiser(guided, nn.Identity())
    latent(x, SIGMA)
    assert latent.nfe == nfe


def test_one_level_per_image(x, labels):
    guided = ClassifierFreeGuidance(transformer(4), 3.0, 3)
    levels = torch.tensor([0.1, 2.5, 0.7, 12.0])
    mixed = guided(x, levels, torch.eye(3)[labels])
    for i in range(4):
        alone = guided(x[i : i + 1], levels[i], torch.eye(3)[labels[i : i + 1]])
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_options_are_given_to_both_halves(x, labels):
    torch.manual_seed(0)
    network = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "augment_dim": 9}
    denoiser = EDMPrecond(8, 3, 3, **network).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.3)
    condition, augment = torch.eye(3)[labels], torch.rand(4, 9)
    cond, uncond = (denoiser(x, SIGMA, c, augment_labels=augment) for c in (condition, None))
    guided = ClassifierFreeGuidance(denoiser, 3.0)
    found = guided(x, SIGMA, condition, augment_labels=augment)
    torch.testing.assert_close(found, uncond + 3 * (cond - uncond), rtol=1e-4, atol=1e-4)
    assert (found - guided(x, SIGMA, condition, augment_labels=augment[:1])).abs().max() > 1e-3


def test_noise_levels_are_those_of_the_network(x):
    denoiser = transformer(4)
    for wrapper in (ClassifierFreeGuidance(denoiser, 2.0, 3), Autoguidance(denoiser, transformer(4, 1), 2.0)):
        assert (wrapper.sigma_min, wrapper.sigma_max) == (denoiser.sigma_min, denoiser.sigma_max)
        assert wrapper.image_shape == denoiser.image_shape
        assert torch.equal(wrapper.round_sigma(SIGMA), denoiser.round_sigma(SIGMA))
        assert torch.equal(wrapper.alphas_cumprod, denoiser.alphas_cumprod)


@pytest.mark.parametrize("classes", [4, 0])
def test_autoguidance(classes, x, labels):
    good, bad = transformer(4), transformer(classes, seed=1)
    condition = torch.eye(4)[labels]
    guided = Autoguidance(good, bad, 1.7)
    expected = bad(x, SIGMA, condition).lerp(good(x, SIGMA, condition), 1.7)
    torch.testing.assert_close(guided(x, SIGMA, condition), expected, rtol=1e-5, atol=1e-5)
    assert guided.nfe == 2
    alone = Autoguidance(good, bad, 1.0)
    assert torch.equal(alone(x, SIGMA, condition), good(x, SIGMA, condition)) and alone.nfe == 1


def test_latents_are_decoded_at_their_scale():
    torch.manual_seed(0)
    autoencoder = KLAutoencoder(**SMALL_KL).eval()
    latent = LatentDenoiser(transformer(4), autoencoder, 0.18215)
    z = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(latent.decode(z.double()), autoencoder.decode(z / 0.18215))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    encoded = latent.encode(images)
    assert encoded.shape == (2, *latent.image_shape) and not encoded.requires_grad
    torch.testing.assert_close(encoded, 0.18215 * autoencoder.encode(images))
    with pytest.raises(SkiptuneError, match=r"expected \[N, 3, 8, 8\]"):
        latent.decode(z[:, :, :4])


def test_wrong_arguments_are_explained():
    with pytest.raises(SkiptuneError, match="needs a class-conditional network"):
        ClassifierFreeGuidance(transformer(0), 2.0)
    with pytest.raises(SkiptuneError, match="null class 4 does not exist"):
        ClassifierFreeGuidance(transformer(4), 2.0, 4)
    with pytest.raises(SkiptuneError, match="the guide has 3 classes"):
        Autoguidance(transformer(4), transformer(3), 2.0)
    with pytest.raises(SkiptuneError, match="scale of latents must be positive"):
        LatentDenoiser(transformer(4), nn.Identity(), 0.0)
