"""The ADM U-Net (Dhariwal & Nichol 2021) in the form that EDM trains on ImageNet-64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.layers import (
    Conv2d,
    PositionalEmbedding,
    UNetBlock,
    kaiming_,
    kaiming_uniform,
    silu,
)
from skiptune.denoisers.normalisation import group_norm


class DhariwalUNet(nn.Module):
    """Raw network ``F(x, noise_label, class_labels)``; argument names are EDM's.

    A level with fewer than 64 channels has no attention even if listed in ``attn_resolutions`` (heads have 64
    channels). ``num_blocks`` blocks per encoder level and one more per decoder level; every encoder entry is
    a skip connection.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
    ):
        super().__init__()
        self.label_dropout = label_dropout
        emb_channels = model_channels * channel_mult_emb
        self.map_noise = PositionalEmbedding(model_channels)
        self.map_augment = nn.Linear(augment_dim, model_channels, bias=False) if augment_dim else None
        self.map_layer0 = nn.Linear(model_channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)
        self.map_label = nn.Linear(label_dim, emb_channels, bias=False) if label_dim else None

        def block(
            in_ch: int, out_ch: int, attend: bool = False, up: bool = False, down: bool = False
        ) -> UNetBlock:
            heads = out_ch // 64 if attend else 0
            made = UNetBlock(in_ch, out_ch, emb_channels, up=up, down=down, heads=heads, dropout=dropout)
            kaiming_(made.conv0, made.affine)
            if made.skip is not None:
                kaiming_(made.skip)
            if heads:
                kaiming_(made.qkv)
            return made

        widths = [model_channels * m for m in channel_mult]
        resolutions = [img_resolution >> level for level in range(len(widths))]

        self.enc = nn.ModuleDict()
        skips: list[int] = []
        channels = in_channels
        for level, (res, width) in enumerate(zip(resolutions, widths, strict=True)):
            if level == 0:
                self.enc[f"{res}x{res}_conv"] = first = Conv2d(channels, width, 3)
                channels = width
            else:
                self.enc[f"{res}x{res}_down"] = block(channels, channels, down=True)
            skips.append(channels)
            for i in range(num_blocks):
                self.enc[f"{res}x{res}_block{i}"] = block(channels, width, res in attn_resolutions)
                channels = width
                skips.append(channels)

        self.dec = nn.ModuleDict()
        for level in reversed(range(len(widths))):
            res, width = resolutions[level], widths[level]
            if level == len(widths) - 1:
                self.dec[f"{res}x{res}_in0"] = block(channels, channels, True)
                self.dec[f"{res}x{res}_in1"] = block(channels, channels)
            else:
                self.dec[f"{res}x{res}_up"] = block(channels, channels, up=True)
            for i in range(num_blocks + 1):
                made = block(channels + skips.pop(), width, res in attn_resolutions)
                self.dec[f"{res}x{res}_block{i}"] = made
                channels = width
        self.out_norm = group_norm(channels, eps=1e-5)
        self.out_conv = Conv2d(channels, out_channels, 3, init_scale=0.0)
        kaiming_(self.map_layer0, self.map_layer1, first)
        if self.map_label is not None:
            self.map_label.weight.data = kaiming_uniform(emb_channels, label_dim) * math.sqrt(label_dim)
        if self.map_augment is not None:
            nn.init.zeros_(self.map_augment.weight)

    def embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """Embedding of noise level, class and augmentation, ``[1 or N, 4 * model_channels]``."""
        emb = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if self.map_label is not None and class_labels is not None:
            if self.training and self.label_dropout:
                keep = torch.rand(len(class_labels), 1, device=class_labels.device) >= self.label_dropout
                class_labels = class_labels * keep
            emb = emb + self.map_label(class_labels)
        return F.silu(emb)

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
        for layer in self.enc.values():
            x = layer(x, emb) if isinstance(layer, UNetBlock) else layer(x)
            skips.append(x)
        for layer in self.dec.values():
            if layer.in_channels != x.shape[1]:
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, emb)
        return self.out_conv(silu(self.out_norm(x)))
