"""As ``infer``, for the networks of NVlabs/edm and edm2, whose names hold the resolutions."""

from __future__ import annotations

import re
from typing import Any

from skiptune.checkpoints.building.inferred import Inferred, Shapes


def of_resolutions(shapes: Shapes, layer: str) -> dict[int, tuple[int, ...]]:
    """Shapes of ``<path>.enc.<resolution>_<layer>``, ``layer`` being a pattern, downwards.

    Of several in one resolution the last is taken.
    """
    pattern = re.compile(rf"\w+\.enc\.(\d+)x\d+_{layer}")
    found = {int(match[1]): shape for name, shape in shapes.items() if (match := pattern.fullmatch(name))}
    return dict(sorted(found.items(), reverse=True))


def blocks(shapes: Shapes, resolution: int) -> int:
    """Number of encoder blocks of a resolution."""
    pattern = re.compile(rf"\w+\.enc\.{resolution}x{resolution}_(block\d+)\..*")
    return len({match[1] for name in shapes if (match := pattern.fullmatch(name))})


def infer_edm2(shapes: Shapes) -> Inferred:
    """EDM2, from the parameters of the official ``Precond``."""
    [(size, (width, channels, *_))] = of_resolutions(shapes, r"conv\.weight").items()
    levels = of_resolutions(shapes, r"block0\.emb_linear\.weight")
    attention = of_resolutions(shapes, r"block\d+\.attn_proj\.weight")
    emb, noise = shapes["unet.emb_noise.weight"]
    heads = min([64, *(shape[0] for shape in attention.values())])
    kwargs = {
        "img_resolution": size,
        "img_channels": channels - 1,
        "label_dim": shapes["unet.emb_label.weight"][1] if "unet.emb_label.weight" in shapes else 0,
        "logvar_channels": shapes["logvar_linear.weight"][1],
        "model_channels": width,
        "channel_mult": [shape[0] // width for shape in levels.values()],
        "channel_mult_emb": emb // width,
        "channel_mult_noise": noise // width,
        "num_blocks": blocks(shapes, size),
        "attn_resolutions": list(attention),
        "channels_per_head": heads,
    }
    assumed = "sigma_data 0.5", f"attention heads of {heads} channels", "the published balances of sums"
    return Inferred({"class": "EDM2Precond", "kwargs": kwargs}, assumed)


def infer_edm(shapes: Shapes) -> Inferred:
    """``DhariwalUNet`` or ``SongUNet``, from the parameters of a preconditioned network."""
    [(size, (first, channels, *_))] = of_resolutions(shapes, r"conv\.weight").items()
    adm = "model.out_conv.weight" in shapes
    emb, noise = shapes["model.map_layer0.weight"]
    # Of ADM, whose first level may be wider, the width of the time embedding tells the base width.
    width = noise if adm else first
    label, augment = (shapes.get(f"model.map_{name}.weight", (0, 0))[1] for name in ("label", "augment"))
    kwargs: dict[str, Any] = {
        "model_type": "DhariwalUNet" if adm else "SongUNet",
        "img_resolution": size,
        "img_channels": channels,
        "label_dim": label,
        "augment_dim": augment,
        "model_channels": width,
        "channel_mult": [
            shape[0] // width for shape in of_resolutions(shapes, r"block0\.conv0\.weight").values()
        ],
        "channel_mult_emb": emb // width,
        "num_blocks": blocks(shapes, size),
        "attn_resolutions": list(of_resolutions(shapes, r"block\d+\.qkv\.weight")),
    }
    if not adm:
        kwargs |= song(shapes, noise // width)
    cosine = "u" in shapes  # the levels of iDDPM, which no other preconditioning stores
    assumed = "" if cosine else "EDM's preconditioning with sigma_data 0.5 (not VP or VE)"
    filters = "" if adm else "binomial resampling filters"
    description = {"class": "iDDPMPrecond" if cosine else "EDMPrecond", "kwargs": kwargs}
    if cosine:
        kwargs["M"] = shapes["u"][0] - 1
    return Inferred(description, tuple(line for line in (assumed, filters) if line))


def song(shapes: Shapes, channel_mult_noise: int) -> dict[str, Any]:
    """What DDPM++ and NCSN++ differ in."""
    residual, skip = (any(f"aux_{kind}" in name for name in shapes) for kind in ("residual", "skip"))
    outputs = sum(name.endswith("aux_conv.weight") for name in shapes)
    taps = next((shape[-1] for name, shape in shapes.items() if name.endswith("resample_filter")), 2)
    return {
        "embedding_type": "fourier" if "model.map_noise.freqs" in shapes else "positional",
        "encoder_type": "residual" if residual else "skip" if skip else "standard",
        "decoder_type": "skip" if outputs > 1 else "standard",
        "channel_mult_noise": channel_mult_noise,
        "resample_filter": [1, 3, 3, 1] if taps == 4 else [1] * taps,
    }
