"""The diffusers port of consistency models (openai/diffusers-cd_imagenet64_*) under the official names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

State = dict[str, Tensor]

# Arguments of UNet2DModel with which it is the guided-diffusion U-Net, and their defaults there.
REQUIRED = {
    "downsample_type": ("resnet", "conv"),
    "upsample_type": ("resnet", "conv"),
    "norm_num_groups": (32, 32),
    "norm_eps": (1e-5, 1e-5),
    "time_embedding_type": ("positional", "positional"),
    "flip_sin_to_cos": (True, True),
    "freq_shift": (0, 0),
    "act_fn": ("silu", "silu"),
    "add_attention": (True, True),
    "class_embed_type": (None, None),
    "center_input_sample": (False, False),
    "mid_block_scale_factor": (1, 1),
}
NOISE = ("sigma_min", "sigma_max", "sigma_data")
SHIFTS = {"scale_shift": True, "default": False}
BLOCKS = {
    "ResnetDownsampleBlock2D": False, "AttnDownBlock2D": True,
    "ResnetUpsampleBlock2D": False, "AttnUpBlock2D": True,
}  # fmt: skip
RESIDUAL = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "label_emb", "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0",
    "conv_out": "out.2",
}  # fmt: skip


def consistency_description(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How to build the ``ConsistencyDenoiser``, from the port's unet/config.json and scheduler_config.json.

    Raises:
        SkiptuneError: a U-Net of diffusers that is not the guided-diffusion U-Net.
    """
    for name, (wanted, default) in REQUIRED.items():
        if unet.get(name, default) != wanted:
            raise SkiptuneError(
                f"no consistency model of diffusers: {name} is {unet.get(name, default)!r}, not {wanted!r}"
            )
    shift = unet.get("resnet_time_scale_shift", "default")
    groups = unet.get("attn_norm_num_groups") or (32 if shift == "default" else None)
    if shift not in SHIFTS or groups != 32:
        raise SkiptuneError(
            f"no consistency model of diffusers: resnet_time_scale_shift is {shift!r}, attn_norm_num_groups "
            f"{groups!r}; expected scale_shift or default, and 32"
        )
    attention, width = attention_levels(unet), unet["block_out_channels"][0]
    levels = {key: value for key, value in (scheduler or {}).items() if key in NOISE}
    kwargs = {
        "image_size": unet["sample_size"],
        "in_channels": unet["in_channels"],
        "model_channels": width,
        "out_channels": unet["out_channels"],
        "num_res_blocks": unet["layers_per_block"],
        "attention_resolutions": [2**level for level, here in enumerate(attention) if here],
        "channel_mult": [
            channels // width if channels % width == 0 else channels / width
            for channels in unet["block_out_channels"]
        ],
        "num_classes": unet.get("num_class_embeds"),
        "num_head_channels": unet.get("attention_head_dim") or 8,
        "use_scale_shift_norm": SHIFTS[shift],
        "resblock_updown": True,
        **levels,
    }
    return {"class": "ConsistencyDenoiser", "kwargs": kwargs}


def attention_levels(unet: Mapping[str, Any]) -> list[bool]:
    """Whether the levels of the U-Net, from the highest resolution down, have attention.

    Raises:
        SkiptuneError: another kind of block, or an encoder and a decoder that differ.
    """
    down, up = list(unet["down_block_types"]), list(unet["up_block_types"])
    unknown = sorted({*down, *up} - BLOCKS.keys())
    if unknown:
        raise SkiptuneError(f"no consistency model of diffusers: it has blocks {', '.join(unknown)}")
    levels = [BLOCKS[name] for name in down]
    if levels != [BLOCKS[name] for name in reversed(up)]:
        raise SkiptuneError("no consistency model of diffusers: attention differs in encoder and decoder")
    return levels


def official_state(state: Mapping[str, Tensor], unet: Mapping[str, Any]) -> State:
    """The parameters of a ported U-Net under the names, and in the shapes, of ``GuidedUNet``.

    Raises:
        SkiptuneError: a parameter that the configuration ``unet`` has no place for.
    """
    places = dict(modules(unet))
    renamed: State = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        block, _, inner = module.rpartition(".")
        if module in OUTSIDE:
            renamed[f"{OUTSIDE[module]}.{kind}"] = value
        elif block in places and inner in RESIDUAL:
            renamed[f"{places[block]}.{RESIDUAL[inner]}.{kind}"] = value
        elif block in places and inner == "group_norm":
            renamed[f"{places[block]}.norm.{kind}"] = value
        elif block in places and inner in ("to_q", "to_k", "to_v"):
            parts.setdefault(f"{places[block]}.qkv.{kind}", {})[inner] = value
        elif block.removesuffix(".to_out") in places and module.endswith(".to_out.0"):
            renamed[f"{places[block.removesuffix('.to_out')]}.proj_out.{kind}"] = as_convolution(value)
        else:
            raise SkiptuneError(f"no consistency model of diffusers: its U-Net has no place for {name}")
    for name, part in parts.items():
        if len(part) != 3:
            raise SkiptuneError(f"no consistency model of diffusers: {name} needs to_q, to_k and to_v")
        renamed[name] = as_convolution(torch.cat([part["to_q"], part["to_k"], part["to_v"]]))
    return renamed


def as_convolution(value: Tensor) -> Tensor:
    """The weight of a linear map as that of a 1x1 convolution; a bias as it is."""
    return value[:, :, None, None] if value.dim() == 2 else value


def modules(unet: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name in diffusers, official name) of every residual and attention block."""
    levels, blocks = attention_levels(unet), int(unet["layers_per_block"])
    index = 1
    for level, attention in enumerate(levels):
        for block in range(blocks):
            yield f"down_blocks.{level}.resnets.{block}", f"input_blocks.{index}.0"
            if attention:
                yield f"down_blocks.{level}.attentions.{block}", f"input_blocks.{index}.1"
            index += 1
        if level < len(levels) - 1:
            yield f"down_blocks.{level}.downsamplers.0", f"input_blocks.{index}.0"
            index += 1
    for name, place in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2)):
        yield f"mid_block.{name}", f"middle_block.{place}"
    for level, attention in enumerate(reversed(levels)):
        for block in range(blocks + 1):
            stage = f"output_blocks.{level * (blocks + 1) + block}"
            yield f"up_blocks.{level}.resnets.{block}", f"{stage}.0"
            if attention:
                yield f"up_blocks.{level}.attentions.{block}", f"{stage}.1"
            if level < len(levels) - 1 and block == blocks:
                yield f"up_blocks.{level}.upsamplers.0", f"{stage}.{1 + attention}"
