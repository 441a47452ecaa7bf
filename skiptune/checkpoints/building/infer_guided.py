"""As ``infer``, for the guided-diffusion U-Net: consistency models, latent diffusion and its autoencoders."""

from __future__ import annotations

from typing import Any

from skiptune.checkpoints.building.inferred import Inferred, Shapes, children

# Pixels of the images, by widths (script_util.py of openai/consistency_models).
IMAGE_SIZES = {(1, 2, 3, 4): 64, (1, 1, 2, 3, 4): 128, (1, 1, 2, 2, 4, 4): 256}


def unet(shapes: Shapes) -> dict[str, Any]:
    """The arguments that both U-Nets share.

    The decoder tells its levels: each but the last ends with a layer that doubles the resolution, which is a
    convolution or, with ``resblock_updown``, a residual block.
    """
    width = shapes["time_embed.0.weight"][1]
    mults: list[float] = []
    attention: list[int] = []
    blocks, updown, level = 0, False, 0
    for stage in children(shapes, "output_blocks"):
        layers = children(shapes, f"output_blocks.{stage}")
        names = [f"output_blocks.{stage}.{layer}." for layer in layers]
        if level == len(mults):
            mults.append(shapes[names[0] + "out_layers.3.weight"][0] / width)
        if len(mults) == 1:
            blocks += 1
        if any(name + "norm.weight" in shapes for name in names[1:]) and level not in attention:
            attention.append(level)
        doubling = [name for name in names[1:] if name + "norm.weight" not in shapes]
        updown = updown or any(name + "in_layers.2.weight" in shapes for name in doubling)
        level += bool(doubling)
    first = "output_blocks.0.0."
    modulation = shapes[first + "emb_layers.1.weight"][0] // shapes[first + "out_layers.3.weight"][0]
    top = len(mults) - 1
    return {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "model_channels": width,
        "out_channels": shapes["out.2.weight"][0],
        "num_res_blocks": blocks - 1,
        "attention_resolutions": [1 << (top - level) for level in reversed(attention)],
        "channel_mult": [int(mult) if mult == int(mult) else mult for mult in reversed(mults)],
        "use_scale_shift_norm": modulation == 2,
        "resblock_updown": updown,
    }


def infer_consistency(shapes: Shapes) -> Inferred:
    """A consistency model, from the parameters of the official ``UNetModel``."""
    network = unet(shapes)
    size = IMAGE_SIZES.get(tuple(network["channel_mult"]), 64)
    classes = shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else None
    kwargs = {
        "image_size": size,
        **network,
        "num_classes": classes,
        "num_head_channels": 64,
        "use_fp16": True,
        "sigma_data": 0.5,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "distillation": True,
    }
    assumed = (
        f"images of {size} x {size}",
        "attention heads of 64 channels",
        "a consistency model (not its EDM teacher), sigma from 0.002 to 80, sigma_data 0.5",
    )
    return Inferred({"class": "ConsistencyDenoiser", "kwargs": kwargs}, assumed)


def infer_latent(shapes: Shapes) -> Inferred:
    """Class-conditional latent diffusion, from its U-Net and, as ``embedding.``, its class embedding."""
    classes, tokens = shapes["embedding.embedding.weight"]
    prefix = "middle_block.1.transformer_blocks"
    network = unet(shapes)
    size = 1 << (len(network["channel_mult"]) + 2)
    network |= {
        "image_size": size,
        "num_heads": 1,
        "use_spatial_transformer": True,
        "transformer_depth": len(children(shapes, prefix)),
        "context_dim": shapes[f"{prefix}.0.attn2.to_k.weight"][1],
    }
    kwargs = {
        "network": {"class": "LatentUNet", "kwargs": network},
        "image_shape": [network["in_channels"], size, size],
        "num_classes": classes,
        "class_tokens": tokens,
        "schedule": {"kind": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    }
    assumed = (
        f"latents of {size} x {size}",
        "one attention head a layer",
        "beta from 0.0015 to 0.0195, linear in its root",
        f"class {classes - 1} is the null class, no guidance",
    )
    description = {
        "class": "DiscreteDenoiser",
        "kwargs": kwargs,
        "guidance": {"scale": 1.0, "null": classes - 1},
    }
    return Inferred(description, assumed)


def infer_autoencoder(shapes: Shapes, latent_size: int) -> Inferred:
    """The autoencoder of a latent model, from the parameters of ``VQModelInterface`` or ``AutoencoderKL``.

    Args:
        latent_size: pixels of the latents.
    """
    levels = children(shapes, "encoder.down")
    ch = shapes["encoder.conv_in.weight"][0]
    size = latent_size << (len(levels) - 1)
    z_channels = shapes["decoder.conv_in.weight"][1]
    attention = [size >> level for level in levels if f"encoder.down.{level}.attn.0.q.weight" in shapes]
    codes = shapes.get("quantize.embedding.weight")
    kwargs: dict[str, Any] = {
        "embed_dim": shapes["post_quant_conv.weight"][1],
        "ddconfig": {
            "double_z": shapes["encoder.conv_out.weight"][0] == 2 * z_channels,
            "z_channels": z_channels,
            "resolution": size,
            "in_channels": shapes["encoder.conv_in.weight"][1],
            "out_ch": shapes["decoder.conv_out.weight"][0],
            "ch": ch,
            "ch_mult": [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] // ch for level in levels],
            "num_res_blocks": len(children(shapes, "encoder.down.0.block")),
            "attn_resolutions": attention,
            "dropout": 0.0,
        },
    }
    if codes:
        kwargs["n_embed"] = codes[0]
    scale = 1.0 if codes else 0.18215
    description = {"class": "VQAutoencoder" if codes else "KLAutoencoder", "kwargs": kwargs, "scale": scale}
    return Inferred(description, (f"latents are multiplied by {scale:g}",))
