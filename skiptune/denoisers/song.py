"""DDPM++ and NCSN++ (Song et al. 2021) in the form that EDM trains on CIFAR-10, FFHQ and AFHQv2."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.layers import (
    Conv2d,
    FourierEmbedding,
    PositionalEmbedding,
    UNetBlock,
    xavier_uniform,
)
from skiptune.denoisers.normalisation import group_norm

HALF_POWER = math.sqrt(0.5)


class SongUNet(nn.Module):
    """Raw network ``F(x, noise_label, class_labels)``; argument names are EDM's.

    DDPM++: positional embedding, standard encoder and decoder, filter [1, 1]. NCSN++: Fourier embedding,
    residual encoder, filter [1, 3, 3, 1].
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[float] = (1, 1),
    ):
        super().__init__()
        for name, value, known in (
            ("embedding_type", embedding_type, ("positional", "fourier")),
            ("encoder_type", encoder_type, ("standard", "skip", "residual")),
            ("decoder_type", decoder_type, ("standard", "skip")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        self.label_dropout = label_dropout
        emb_channels, noise_channels = model_channels * channel_mult_emb, model_channels * channel_mult_noise
        self.map_noise: nn.Module = (
            PositionalEmbedding(noise_channels, endpoint=True)
            if embedding_type == "positional"
            else FourierEmbedding(noise_channels)
        )
        self.map_label = linear(label_dim, noise_channels) if label_dim else None
        self.map_augment = linear(augment_dim, noise_channels, bias=False) if augment_dim else None
        self.map_layer0 = linear(noise_channels, emb_channels)
        self.map_layer1 = linear(emb_channels, emb_channels)

        def block(
            in_ch: int, out_ch: int, attend: bool = False, up: bool = False, down: bool = False
        ) -> UNetBlock:
            made = UNetBlock(
                in_ch, out_ch, emb_channels, up=up, down=down, heads=int(attend), dropout=dropout,
                skip_scale=HALF_POWER, eps=1e-6, taps=resample_filter, resample_proj=True,
                adaptive_scale=False, zero_scale=1e-5,
            )  # fmt: skip
            made.affine.weight.data = xavier_uniform(out_ch, emb_channels)
            nn.init.zeros_(made.affine.bias)
            if attend:
                made.qkv.get_parameter("weight").data *= math.sqrt(0.2)
            return made

        widths = [model_channels * m for m in channel_mult]
        resolutions = [img_resolution >> level for level in range(len(widths))]

        self.enc = nn.ModuleDict()
        skips: list[int] = []
        channels = aux_channels = in_channels
        for level, (res, width) in enumerate(zip(resolutions, widths, strict=True)):
            at = f"{res}x{res}"
            if level == 0:
                self.enc[f"{at}_conv"] = Conv2d(channels, model_channels, 3)
                channels = model_channels
            else:
                self.enc[f"{at}_down"] = block(channels, channels, down=True)
                if encoder_type == "skip":
                    self.enc[f"{at}_aux_down"] = Conv2d(
                        aux_channels, aux_channels, 0, down=True, taps=resample_filter
                    )
                    self.enc[f"{at}_aux_skip"] = Conv2d(aux_channels, channels, 1)
                if encoder_type == "residual":
                    self.enc[f"{at}_aux_residual"] = Conv2d(
                        aux_channels, channels, 3, down=True, taps=resample_filter, fused_resample=True
                    )
                    aux_channels = channels
            skips.append(channels)
            for i in range(num_blocks):
                self.enc[f"{at}_block{i}"] = block(channels, width, res in attn_resolutions)
                channels = width
                skips.append(channels)

        self.dec = nn.ModuleDict()
        for level in reversed(range(len(widths))):
            res, width = resolutions[level], widths[level]
            at = f"{res}x{res}"
            if level == len(widths) - 1:
                self.dec[f"{at}_in0"] = block(channels, channels, True)
                self.dec[f"{at}_in1"] = block(channels, channels)
            else:
                self.dec[f"{at}_up"] = block(channels, channels, up=True)
            for i in range(num_blocks + 1):
                attend = i == num_blocks and res in attn_resolutions
                self.dec[f"{at}_block{i}"] = block(channels + skips.pop(), width, attend)
                channels = width
            if decoder_type == "skip" or level == 0:
                if decoder_type == "skip" and level < len(widths) - 1:
                    self.dec[f"{at}_aux_up"] = Conv2d(
                        out_channels, out_channels, 0, up=True, taps=resample_filter
                    )
                self.dec[f"{at}_aux_norm"] = group_norm(channels, eps=1e-6)
                self.dec[f"{at}_aux_conv"] = Conv2d(channels, out_channels, 3, init_scale=1e-5)

    def embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """Embedding of noise level, class and augmentation, ``[1 or N, 4 * model_channels]``."""
        emb = self.map_noise(noise_labels)
        emb = torch.cat(emb.chunk(2, dim=1)[::-1], dim=1)  # sines first
        if self.map_label is not None and class_labels is not None:
            if self.training and self.label_dropout:
                keep = torch.rand(len(class_labels), 1, device=class_labels.device) >= self.label_dropout
                class_labels = class_labels * keep
            emb = emb + self.map_label(class_labels * math.sqrt(self.map_label.in_features))
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """``x`` is ``[N, C, H, W]``, ``noise_labels`` is ``[1 or N]``."""
        emb = self.embed(noise_labels, class_labels, augment_labels)
        skips: list[Tensor] = []
        aux = x
        for name, layer in self.enc.items():
            if name.endswith("aux_down"):
                aux = layer(aux)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + layer(aux)
            elif name.endswith("aux_residual"):
                x = skips[-1] = aux = (x + layer(aux)) * HALF_POWER
            else:
                x = layer(x, emb) if isinstance(layer, UNetBlock) else layer(x)
                skips.append(x)

        out: Tensor | None = None
        for name, layer in self.dec.items():
            if name.endswith("aux_up"):
                out = layer(out)
            elif name.endswith("aux_norm"):
                normed = layer(x)
            elif name.endswith("aux_conv"):
                head = layer(F.silu(normed))
                out = head if out is None else head + out
            else:
                if layer.in_channels != x.shape[1]:
                    x = torch.cat([x, skips.pop()], dim=1)
                x = layer(x, emb)
        assert out is not None
        return out


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Linear layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    layer.weight.data = xavier_uniform(out_features, in_features)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
