"""Small U-Nets with random weights and transformers at the seven places of Stable Diffusion's."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from skiptune.denoisers.diffusers_network import DiffusersNetwork, Prompted
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.errors import SkiptuneError

IMAGE = (4, 8, 8)
TOKENS, WIDTH = 5, 12
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 8, 16, 16),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
}
LOUDER = 2.0  # fresh transformers add next to nothing to their input; their matrices are multiplied by this


def small_network(seed: int) -> Prompted:
    """The network of that seed with a random prompt, frozen, on the CPU; torch's global generator is left.

    Raises:
        SkiptuneError: diffusers is not installed.
    """
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise SkiptuneError(
            "U-Nets with transformers need diffusers: pip install 'skiptune[text-to-image]'"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(**UNET).eval().requires_grad_(False)
        prompt = torch.randn(1, TOKENS, WIDTH)
    for name, parameter in unet.named_parameters():
        if "attentions" in name and parameter.dim() > 1:
            parameter.mul_(LOUDER)
    alphas = vp_alphas("scaled_linear", 0.00085, 0.012)
    denoiser = DiscreteDenoiser(DiffusersNetwork(unet), IMAGE, alphas).eval()
    return Prompted(denoiser, {"context": prompt}).eval()
