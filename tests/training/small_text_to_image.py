"""A text-to-image network small enough for tests, with transformers at three places."""

import torch

from skiptune.denoisers import build_denoiser

WORDS = ["a", "red", "blue", "letter", "K", "on", "white"]
PROMPTS = ["a red letter K on white", "a blue letter K"]
DESCRIPTION = {
    "class": "TextToImage",
    "kwargs": {
        "unet": {
            "sample_size": 8,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": [8, 16],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": 1,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "cross_attention_dim": 8,
        },
        "encoder": {"words": WORDS, "layers": 1, "heads": 2, "length": 9},
        "image_shape": [3, 8, 8],
        "schedule": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    },
}


def small(seed=0):
    """Frozen, in evaluation mode."""
    torch.manual_seed(seed)
    return build_denoiser(DESCRIPTION).eval().requires_grad_(False)
