"""Small files in the layout of every official system, with what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.official_layout import write_edm, write_edm2
from experiments.benchmarks.torch_layouts import (
    random_state,
    write_consistency,
    write_ddim,
    write_latent,
    write_uvit,
)
from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.denoisers import build_denoiser
from skiptune.denoisers.latent import LatentDenoiser

EDM = {
    "model_type": "SongUNet", "img_resolution": 16, "img_channels": 3, "label_dim": 4, "augment_dim": 9,
    "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8], "dropout": 0.13,
    "embedding_type": "fourier", "encoder_type": "residual", "decoder_type": "standard",
    "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1],
}  # fmt: skip
EDM2 = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 5, "use_fp16": True, "sigma_data": 0.5,
    "logvar_channels": 32, "model_channels": 64, "channel_mult": [1, 2], "num_blocks": 1,
    "attn_resolutions": [8], "dropout": 0.1,
}  # fmt: skip
CONSISTENCY = {
    "image_size": 64, "in_channels": 3, "model_channels": 64, "out_channels": 3, "num_res_blocks": 1,
    "attention_resolutions": [2, 8], "channel_mult": [1, 1, 2, 1], "num_classes": 7, "num_head_channels": 64,
    "use_scale_shift_norm": True, "resblock_updown": True, "use_fp16": True,
}  # fmt: skip
DDIM = {
    "network": {"class": "DDIMUNet", "kwargs": {
        "type": "simple", "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1,
        "attn_resolutions": [16], "dropout": 0.1, "resamp_with_conv": True, "image_size": 32,
    }},
    "image_shape": [3, 32, 32],
    "schedule": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02},
}  # fmt: skip
UVIT = {
    "network": {"class": "UViT", "kwargs": {
        "img_size": 16, "patch_size": 2, "in_chans": 4, "embed_dim": 64, "depth": 4, "num_heads": 1,
        "mlp_ratio": 4, "num_classes": 6, "conv": False,
    }},
    "image_shape": [4, 16, 16], "num_classes": 6, "first_time": 1,
    "schedule": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
}  # fmt: skip
LATENT = {
    "network": {"class": "LatentUNet", "kwargs": {
        "image_size": 16, "in_channels": 3, "out_channels": 3, "model_channels": 32, "channel_mult": [1, 2],
        "num_res_blocks": 1, "attention_resolutions": [2, 1], "num_heads": 1, "use_spatial_transformer": True,
        "transformer_depth": 1, "context_dim": 24,
    }},
    "image_shape": [3, 16, 16], "num_classes": 6, "class_tokens": 24,
    "schedule": {"kind": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
}  # fmt: skip


def first_stage(codes: int | None, channels: int) -> dict[str, Any]:
    ddconfig = {
        "double_z": codes is None, "z_channels": channels, "resolution": 32, "in_channels": 3, "out_ch": 3,
        "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [],
    }  # fmt: skip
    kwargs: dict[str, Any] = {"embed_dim": channels, "ddconfig": ddconfig}
    if codes is None:
        return {"class": "KLAutoencoder", "kwargs": kwargs, "scale": 0.18215}
    return {"class": "VQAutoencoder", "kwargs": {**kwargs, "n_embed": codes}, "scale": 1.0}


GUIDED = {"scale": 1.5, "null": 5}
DISCRETE = "DiscreteDenoiser"
PRECONDITIONED = ("EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond")
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"class": name, "kwargs": EDM} for name in PRECONDITIONED},
    "EDM2Precond": {"class": "EDM2Precond", "kwargs": EDM2},
    "consistency": {"class": "ConsistencyDenoiser", "kwargs": CONSISTENCY},
    "DDIM": {"class": DISCRETE, "kwargs": DDIM},
    "DDIM, legacy": {"class": DISCRETE, "kwargs": DDIM},
    "U-ViT": {
        "class": DISCRETE, "kwargs": UVIT, "guidance": GUIDED, "autoencoder": first_stage(None, 4),
    },
    "latent diffusion": {
        "class": DISCRETE, "kwargs": LATENT, "guidance": GUIDED, "autoencoder": first_stage(16, 3),
    },
}  # fmt: skip
TOLD_BY_THE_FILE = (*PRECONDITIONED, "EDM2Precond")
Saved = tuple[Path, Path | None, dict[str, Tensor], dict[str, Tensor]]


def write(case: str, folder: Path) -> Saved:
    """File, file of the autoencoder, and what the denoiser and its autoencoder should then hold."""
    description = DESCRIPTIONS[case]
    path = folder / "network.ckpt"
    torch.manual_seed(0)
    if case in TOLD_BY_THE_FILE:
        network = build_denoiser(description)
        state = random_state(network)
        network.load_state_dict(state)
        if case == "EDM2Precond":
            write_edm2(path, "Precond", description["kwargs"], network)
            return path, None, {name: value.half() for name, value in state.items()}, {}
        write_edm(path, case, description["kwargs"], network)
        return path, None, state, {}
    denoiser = build_empty(description)
    inner: Any = innermost(denoiser)
    network_state = random_state(inner.model, 1)
    held = {f"model.{name}": value for name, value in network_state.items()}
    if case == "consistency":
        write_consistency(path, network_state)
        return path, None, held, {}
    if case.startswith("DDIM"):
        trained = {name: value + 1 for name, value in network_state.items()}
        write_ddim(path, trained, network_state, legacy=case == "DDIM, legacy")
        return path, None, held, {}
    assert isinstance(denoiser, LatentDenoiser)
    autoencoder = random_state(denoiser.get_submodule("autoencoder"), 2)
    if case == "U-ViT":
        write_uvit(path, network_state)
        write_uvit(folder / "autoencoder.pth", autoencoder)
        return path, folder / "autoencoder.pth", held, autoencoder
    embedding = torch.randn(6, 24)
    write_latent(path, network_state, embedding, autoencoder, average=True)
    return path, None, {**held, "embedding.embedding.weight": embedding}, autoencoder
