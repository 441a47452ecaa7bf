"""A text-to-image denoiser with two transformer-bearing levels, of a few thousand parameters."""

from __future__ import annotations

from typing import Any

WORDS = ["A", "K", "a", "black", "letter", "on", "red", "white"]


def description(**changes: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        "unet": {
            "sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": [8, 8],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": 1, "attention_head_dim": 1, "norm_num_groups": 2, "cross_attention_dim": 8,
        },
        "encoder": {"words": WORDS, "length": 9, "layers": 1, "heads": 2},
        "image_shape": [3, 16, 16],
        "schedule": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    }  # fmt: skip
    return {"class": "TextToImage", "kwargs": {**kwargs, **changes}}
