"""Layers of the guided-diffusion U-Net; parameter names and shapes equal the published state dicts.

Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", appendix A; the same blocks are in
openai/consistency_models and CompVis/latent-diffusion, which differ in the layout of the attention.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.layers import silu
from skiptune.denoisers.normalisation import GroupNorm

Layer = TypeVar("Layer", bound=nn.Module)


class Conv2d(nn.Conv2d):
    """Convolution of float16 features too: its parameters stay float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return self._conv_forward(input, self.weight.to(input.dtype), bias)


class Conv1d(nn.Conv1d):
    """As Conv2d, over a sequence."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return self._conv_forward(input, self.weight.to(input.dtype), bias)


def zeroed(layer: Layer) -> Layer:
    """The layer with parameters 0: a residual branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def timestep_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Cosines, then sines, of ``t`` at log-spaced frequencies: ``[N] -> [N, width]`` float32."""
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    phase = t.float()[:, None] * torch.exp(-math.log(max_period) * index / half)
    return F.pad(torch.cat([phase.cos(), phase.sin()], dim=1), (0, width % 2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q k' / sqrt(D)) v`` for ``[N, heads, L, D]``; k and v may have another length than q."""
    # Fused kernels want the channels of a head next to each other; other strides fall back to a slow path.
    return F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution unless ``use_conv`` is off."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 with symmetric padding, or averaging over 2x2 pixels."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ResBlock(nn.Module):
    """Residual block, optionally resampling by 2 between the first norm and convolution and on the shortcut.

    ``scale_shift`` modulates the second norm with the embedding, ``norm(h) (1 + scale) + shift``; without it
    the embedding is added. In a decoder block ``x`` is the concatenation ``[u, d]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        *,
        dropout: float = 0.0,
        scale_shift: bool = False,
        up: bool = False,
        down: bool = False,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.scale_shift, self.up, self.down = scale_shift, up, down
        self.in_layers = nn.Sequential(
            GroupNorm(32, in_channels), nn.SiLU(), Conv2d(in_channels, out_channels, 3, padding=1)
        )
        modulation = 2 * out_channels if scale_shift else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, modulation))
        self.out_layers = nn.Sequential(
            GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        changes_width = in_channels != out_channels
        self.skip_connection = Conv2d(in_channels, out_channels, 1) if changes_width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``x`` is ``[N, in, H, W]``, ``emb`` is ``[1 or N, emb]`` float32."""
        norm, _, conv = self.in_layers
        h = conv(self.resample(silu(norm(x))))
        shortcut = self.skip_connection(self.resample(x))
        modulation = self.emb_layers(emb)[:, :, None, None].to(h.dtype)
        norm, _, dropout, conv = self.out_layers
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = norm(h, (scale + 1, shift))
        else:
            h = norm(h + modulation)
        return shortcut + conv(dropout(silu(h)))

    def resample(self, x: Tensor) -> Tensor:
        if self.up:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.down else x


class AttentionBlock(nn.Module):
    """Self-attention over positions, added to its input.

    Args:
        heads_first: channels of ``qkv`` are ordered (head, q|k|v, channel) as in guided-diffusion, else
            (q|k|v, head, channel) as in consistency_models: the shapes are equal, the numbers are not.
        flat: the 1x1 convolutions are stored for sequences, ``[3C, C, 1]``, else for images.
    """

    def __init__(self, channels: int, heads: int, *, heads_first: bool, flat: bool):
        super().__init__()
        self.heads, self.heads_first, self.flat = heads, heads_first, flat
        conv = Conv1d if flat else Conv2d
        self.norm = GroupNorm(32, channels)
        self.qkv = conv(channels, 3 * channels, 1)
        self.proj_out = zeroed(conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        h = h.flatten(2) if self.flat else h
        out = self.attention(self.qkv(h).flatten(2))
        return x + self.proj_out(out.reshape(h.shape)).reshape(x.shape)

    def attention(self, qkv: Tensor) -> Tensor:
        """``[N, 3C, L] -> [N, C, L]``."""
        n, channels, length = qkv.shape
        width = channels // (3 * self.heads)
        if self.heads_first:
            split = qkv.reshape(n, self.heads, 3, width, length).permute(2, 0, 1, 4, 3)
        else:
            split = qkv.reshape(n, 3, self.heads, width, length).permute(1, 0, 2, 4, 3)
        q, k, v = split.contiguous().unbind(0)
        return attend(q, k, v).transpose(2, 3).reshape(n, channels // 3, length)
