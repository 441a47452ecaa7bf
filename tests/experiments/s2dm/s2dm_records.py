"""A small network of DDIM's family, and what the record of its training says."""

from __future__ import annotations

from typing import Any

NETWORK: dict[str, Any] = {
    "class": "DiscreteDenoiser",
    "kwargs": {
        "network": {
            "class": "DDIMUNet",
            "kwargs": {
                "type": "simple",
                "in_channels": 1,
                "out_ch": 1,
                "ch": 32,
                "ch_mult": [1],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.1,
                "resamp_with_conv": True,
                "image_size": 8,
                "num_diffusion_timesteps": 1000,
            },
        },
        "image_shape": [1, 8, 8],
        "schedule": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_timesteps": 1000},
    },
}
SETTINGS = {"images": 640, "batch": 64, "precision": "bf16"}
CURVE = [[64, 9.0], [128, 5.0], [192, 4.0], [256, 3.0], [640, 2.0]]
