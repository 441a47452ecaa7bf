"""First stages of latent diffusion: images to latents and back; parameter names are the published ones.

Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", appendix G, in the
layout of CompVis/latent-diffusion. U-ViT's ``autoencoder_kl.pth`` and ``autoencoder_kl_ema.pth`` are state
dicts of ``KLAutoencoder(**KL_F8)``. Latents here are not scaled; a latent model multiplies them by its own
factor: 1 for LDM cin256-v2, 0.18215 for U-ViT on ImageNet, 0.23010 for U-ViT on MS-COCO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.autoencoder_parts import Decoder, Encoder, FirstStage, Quantizer
from skiptune.errors import SkiptuneError

VQ_F4 = {
    "embed_dim": 3, "n_embed": 8192,
    "ddconfig": {
        "double_z": False, "z_channels": 3, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip
KL_F8 = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian per element of the latent, ``mean`` and ``logvar`` both ``[N, C, H, W]``."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> DiagonalGaussian:
        """From the network's output ``[N, 2C, H, W]``; the log-variance is clamped to [-30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + std * noise`` for standard normal noise of the same shape."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class Autoencoder(nn.Module):
    """What both kinds share.

    Attributes:
        image_shape, latent_shape: ``(C, H, W)`` of the images it was trained with, and of their latents.
    """

    def __init__(self, ddconfig: Mapping[str, Any], embed_dim: int):
        super().__init__()
        stage = FirstStage(**ddconfig)
        self.image_shape = (stage.in_channels, stage.resolution, stage.resolution)
        self.latent_shape = (embed_dim, stage.latent_resolution, stage.latent_resolution)
        self.encoder, self.decoder = Encoder(stage), Decoder(stage)
        moments = 2 if stage.double_z else 1
        self.quant_conv = nn.Conv2d(moments * stage.z_channels, moments * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, stage.z_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Latents ``[N, embed_dim, h, w]`` of images ``[N, C, H, W]`` in [-1, 1]."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Images ``[N, C, H, W]``, about in [-1, 1], of latents ``[N, embed_dim, h, w]``."""
        return self.decoder(self.post_quant_conv(z))

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images ``[N, C, H, W]``."""
        return self.decode(self.encode(x))


class VQAutoencoder(Autoencoder):
    """Latents from a codebook; as the official ``VQModelInterface``, only decoding rounds to its entries.

    Args:
        ddconfig: see FirstStage.
        embed_dim, n_embed: width and number of the entries.
    """

    def __init__(self, ddconfig: Mapping[str, Any], embed_dim: int, n_embed: int):
        super().__init__(ddconfig, embed_dim)
        if self.quant_conv.in_channels != ddconfig["z_channels"]:
            raise SkiptuneError("a VQ autoencoder has no variance: set double_z of its ddconfig to false")
        self.quantize = Quantizer(n_embed, embed_dim)

    def encode(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor, force_not_quantize: bool = False) -> Tensor:
        return super().decode(z if force_not_quantize else self.quantize(z)[0])


class KLAutoencoder(Autoencoder):
    """Gaussian latents; the official ``AutoencoderKL`` and U-ViT's ``FrozenAutoencoderKL``.

    Args:
        ddconfig: see FirstStage.
        embed_dim: channels of the latents.
    """

    def __init__(self, ddconfig: Mapping[str, Any], embed_dim: int):
        super().__init__(ddconfig, embed_dim)
        if self.quant_conv.in_channels == ddconfig["z_channels"]:
            raise SkiptuneError("a KL autoencoder predicts a variance: set double_z of its ddconfig to true")

    def moments(self, x: Tensor) -> Tensor:
        """Means, then log-variances before clamping, ``[N, 2 embed_dim, h, w]``; U-ViT's feature files."""
        return self.quant_conv(self.encoder(x))

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian.from_moments(self.moments(x))

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mode of the posterior, or with ``noise`` ``[N, embed_dim, h, w]`` a sample of it."""
        posterior = self.posterior(x)
        return posterior.mode() if noise is None else posterior.sample(noise)


AUTOENCODERS: dict[str, Callable[..., Autoencoder]] = {
    "VQAutoencoder": VQAutoencoder,
    "KLAutoencoder": KLAutoencoder,
    "VQModelInterface": VQAutoencoder,
    "AutoencoderKL": KLAutoencoder,
}
TRAINING_ONLY = {"lossconfig", "monitor", "image_key", "ckpt_path", "ignore_keys", "scheduler_config"}


def build_autoencoder(description: Mapping[str, Any]) -> Autoencoder:
    """An autoencoder with fresh weights from ``{"class": "KLAutoencoder", "kwargs": {...}}``.

    The official class names and arguments are understood; those that only training needs are left out.

    Raises:
        SkiptuneError: unknown class or argument.
    """
    name = description.get("class")
    if name not in AUTOENCODERS:
        raise SkiptuneError(f"unknown autoencoder class {name!r}; choose one of {', '.join(AUTOENCODERS)}")
    given = description.get("kwargs", {})
    try:
        return AUTOENCODERS[name](**{key: given[key] for key in given if key not in TRAINING_ONLY})
    except (TypeError, ValueError) as error:
        raise SkiptuneError(f"cannot build {name}: {error}") from error


def autoencoder_state(checkpoint: object) -> dict[str, Tensor]:
    """The state dict of the autoencoder in a loaded checkpoint.

    Args:
        checkpoint: a state dict (U-ViT), or a dict that holds one as ``state_dict`` (latent-diffusion), of
            the autoencoder alone or of a latent model with it inside; discriminator and averages are left
            out.

    Raises:
        SkiptuneError: another form.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    values = list(state.values()) if isinstance(state, Mapping) else []
    if not values or not all(isinstance(value, Tensor) for value in values):
        raise SkiptuneError("no checkpoint of an autoencoder: expected a state dict, plain or as state_dict")
    prefix = "first_stage_model."
    inside = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    found = inside or dict(state)
    return {name: found[name] for name in found if not name.startswith(("loss.", "model_ema."))}
