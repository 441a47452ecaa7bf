"""How a network is built, from the names and shapes of its parameters alone.

What these do not tell (attention heads of a layer, pixels of an image, the noise schedule) is taken from the
official systems of the family, and said so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skiptune.checkpoints.building.infer_edm import infer_edm, infer_edm2
from skiptune.checkpoints.building.infer_guided import infer_consistency, infer_latent
from skiptune.checkpoints.building.inferred import Inferred, Shapes, children
from skiptune.errors import SkiptuneError

UVIT_HEADS = {512: 8, 768: 12, 1024: 16, 1152: 16}  # of the published sizes, by width


def infer_uvit(shapes: Shapes) -> Inferred:
    """U-ViT for latents of ImageNet-256, from the parameters of the official ``UViT``."""
    width, in_chans, patch_size, _ = shapes["patch_embed.proj.weight"]
    classes = shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else -1
    tokens = shapes["pos_embed"][1] - (2 if classes > 0 else 1)
    side = math.isqrt(tokens)
    if side**2 != tokens:
        raise SkiptuneError(f"{tokens} patches are no square image: give the description of the network")
    heads = UVIT_HEADS.get(width, max(width // 64, 1))
    network = {
        "img_size": side * patch_size,
        "patch_size": patch_size,
        "in_chans": in_chans,
        "embed_dim": width,
        "depth": 2 * len(children(shapes, "in_blocks")),
        "num_heads": heads,
        "mlp_ratio": shapes["mid_block.mlp.fc1.weight"][0] / width,
        "qkv_bias": "mid_block.attn.qkv.bias" in shapes,
        "mlp_time_embed": "time_embed.0.weight" in shapes,
        "num_classes": classes,
        "conv": "final_layer.weight" in shapes,
        "skip": "out_blocks.0.skip_linear.weight" in shapes,
    }
    kwargs: dict[str, Any] = {
        "network": {"class": "UViT", "kwargs": network},
        "image_shape": [in_chans, side * patch_size, side * patch_size],
        "num_classes": max(classes, 0),
        "schedule": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        "first_time": 1,
    }
    assumed = [
        f"{heads} attention heads",
        "the 1000 discrete times of U-ViT-H/2, beta from 0.00085 to 0.012 (U-ViT-L/2 has continuous time)",
    ]
    description: dict[str, Any] = {"class": "DiscreteDenoiser", "kwargs": kwargs}
    if classes > 1:
        description["guidance"] = {"scale": 1.0, "null": classes - 1}
        assumed.append(f"class {classes - 1} is the null class, no guidance")
    return Inferred(description, tuple(assumed))


def infer_ddim(shapes: Shapes) -> Inferred:
    """DDPM's U-Net, from the parameters of the official ``Model`` of ermongroup/ddim."""
    ch, in_channels = shapes["conv_in.weight"][:2]
    levels = children(shapes, "down")
    attention = [level for level in levels if f"down.{level}.attn.0.q.weight" in shapes]
    image_size = 16 << attention[0] if attention else 32
    network = {
        "type": "bayesian" if "logvar" in shapes else "simple",
        "in_channels": in_channels,
        "out_ch": shapes["conv_out.weight"][0],
        "ch": ch,
        "ch_mult": [shapes[f"down.{level}.block.0.conv1.weight"][0] // ch for level in levels],
        "num_res_blocks": len(children(shapes, "down.0.block")),
        "attn_resolutions": [image_size >> level for level in attention],
        "dropout": 0.1,
        "resamp_with_conv": "down.0.downsample.conv.weight" in shapes,
        "image_size": image_size,
        "num_diffusion_timesteps": shapes["logvar"][0] if "logvar" in shapes else 1000,
    }
    kwargs = {
        "network": {"class": "DDIMUNet", "kwargs": network},
        "image_shape": [in_channels, image_size, image_size],
        "schedule": {
            "kind": "linear",
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "num_timesteps": network["num_diffusion_timesteps"],
        },
    }
    where = "attention at 16 x 16" if attention else "no attention to tell the size of images by"
    assumed = f"images of {image_size} x {image_size} ({where})", "beta from 0.0001 to 0.02, linear"
    return Inferred({"class": "DiscreteDenoiser", "kwargs": kwargs}, (*assumed, "dropout 0.1"))


INFERENCES: dict[str, Callable[[Shapes], Inferred]] = {
    "EDM": infer_edm,
    "EDM2": infer_edm2,
    "guided diffusion": infer_consistency,
    "latent diffusion": infer_latent,
    "DDIM": infer_ddim,
    "U-ViT": infer_uvit,
}


def infer(family: str, shapes: Shapes) -> Inferred:
    """The description of a network of a family.

    Args:
        shapes: of its parameters and buffers, under the official names.

    Raises:
        SkiptuneError: parameters are missing that every network of the family has.
    """
    try:
        return INFERENCES[family](shapes)
    except (KeyError, IndexError, StopIteration, ValueError, ZeroDivisionError) as error:
        raise SkiptuneError(
            f"the parameters do not tell how a {family} network is built ({error or 'names are missing'})"
        ) from error
