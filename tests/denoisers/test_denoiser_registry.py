"""Denoisers from plain descriptions."""

import math

import pytest
import torch

from skiptune.denoisers import build_denoiser
from skiptune.denoisers.registry import alphas
from skiptune.errors import SkiptuneError

UVIT = {
    "network": {"class": "UViT", "kwargs": {
        "img_size": 8, "patch_size": 2, "in_chans": 4, "embed_dim": 32, "depth": 2, "num_heads": 2,
        "num_classes": 4,
    }},
    "image_shape": [4, 8, 8], "num_classes": 4, "first_time": 1,
    "schedule": {"kind": "continuous", "beta_start": 0.1, "beta_end": 20.0, "num_timesteps": 999},
}  # fmt: skip
DDCONFIG = {
    "double_z": True, "z_channels": 4, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32,
    "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [],
}  # fmt: skip
LATENT = {
    "class": "DiscreteDenoiser", "kwargs": UVIT, "guidance": {"scale": 1.4, "null": 3},
    "autoencoder": {"class": "KLAutoencoder", "kwargs": {"embed_dim": 4, "ddconfig": DDCONFIG}, "scale": 0.2},
}  # fmt: skip


def test_continuous_time_of_uvit_large():
    """abar(t) of the VP SDE at t = i / 999; the network is told 999 t."""
    levels = alphas("continuous", 0.1, 20.0, 999)
    for time in (1, 10, 500, 999):
        t = time / 999
        assert levels[time - 1].item() == pytest.approx(math.exp(-0.1 * t - 9.95 * t * t), rel=1e-12)
    denoiser = build_denoiser({"class": "DiscreteDenoiser", "kwargs": UVIT}).eval()
    seen = []
    denoiser.model.register_forward_pre_hook(lambda module, args: seen.append(args[1].item()))
    for time in (1, 500, 999):
        sigma = (1 / levels[time - 1] - 1).sqrt()
        denoiser(torch.zeros(1, 4, 8, 8), sigma, torch.eye(4)[:1])
    assert seen == [1, 500, 999]


def test_guidance_and_autoencoder_go_around_it():
    denoiser = build_denoiser(LATENT).eval()
    assert denoiser.num_classes == 3 and denoiser.image_shape == (4, 8, 8)
    with torch.no_grad():
        x0 = denoiser(torch.randn(1, 4, 8, 8), torch.tensor(1.0), torch.eye(3)[:1])
        assert denoiser.nfe == 2 and denoiser.decode(x0).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "Unet"}, "unknown denoiser class 'Unet'; choose one of EDMPrecond"),
        ({"kwargs": {**UVIT, "network": {"class": "Unet"}}}, "unknown network class 'Unet'; choose one"),
        ({"kwargs": {**UVIT, "colour": 1}}, "cannot build DiscreteDenoiser: .*colour"),
        ({"guidance": {"strength": 1}}, "cannot build guidance: .*strength"),
        ({"autoencoder": {"class": "VAE"}}, "unknown autoencoder class 'VAE'"),
        (
            {"kwargs": {**UVIT, "image_shape": [4, 4, 4]}},
            r"latents \[4, 8, 8\], the network takes \[4, 4, 4\]",
        ),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(SkiptuneError, match=message):
        build_denoiser({**LATENT, **change})
