"""Blocks of the DDPM U-Net, which the autoencoders of latent diffusion share; names are the published ones.

Ho et al. 2020, appendix B, as in ermongroup/ddim and CompVis/latent-diffusion: group normalisation with 32
groups and eps 1e-6, single-head attention, zero padding at the bottom and right only when halving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.layers import silu
from skiptune.denoisers.normalisation import GroupNorm

MakeAttention = Callable[[int], nn.Module]
"""channels -> the attention layer for them."""


def group_norm(channels: int, groups: int = 32) -> GroupNorm:
    """Group normalisation, with the official 32 groups unless told."""
    return GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """``norm1 -> silu -> conv1 -> + temb -> norm2 -> silu -> dropout -> conv2``, plus the shortcut.

    The shortcut is the input itself where its width stays, else a 1x1 convolution, or with ``conv_shortcut``
    a 3x3 one. ``temb_channels=0`` builds the block without time. In a decoder ``x`` is ``[u, d]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        temb_channels: int = 0,
        dropout: float = 0.0,
        conv_shortcut: bool = False,
        groups: int = 32,
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.dropout = in_channels, out_channels, dropout
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if temb_channels:
            self.temb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = group_norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut: nn.Conv2d | None = None
        self.nin_shortcut: nn.Conv2d | None = None
        if in_channels != out_channels:
            if conv_shortcut:
                self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            else:
                self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    @property
    def shortcut(self) -> nn.Conv2d | None:
        """The layer on the residual path, ``None`` where the input is added as it is."""
        return self.conv_shortcut if self.nin_shortcut is None else self.nin_shortcut

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """``x`` is ``[N, in, H, W]``, ``temb`` is ``[1 or N, temb]`` or, without time, ``None``."""
        h = self.conv1(silu(self.norm1(x)))
        if temb is not None:
            h = h + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.dropout(silu(self.norm2(h)), self.dropout, self.training))
        shortcut = self.shortcut
        return (x if shortcut is None else shortcut(x)) + h


class AttnBlock(nn.Module):
    """Self-attention over positions with one head over all channels, added to its input."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        # One transposition to [N, 1, HW, C] serves q, k and v, whose 1x1 convolutions are linear maps there.
        tokens = self.norm(x).flatten(2).transpose(1, 2).contiguous()[:, None]
        q, k, v = (F.linear(tokens, conv.weight.flatten(1), conv.bias) for conv in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(out.transpose(2, 3).reshape(x.shape))


class Downsample(nn.Module):
    """Halves the resolution: a 3x3 convolution of stride 2, or averaging over 2x2 pixels."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2) if self.conv is None else self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then, ``with_conv``, a 3x3 convolution."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Level(nn.Module):
    """The blocks of one resolution, with ``attention`` after each of them."""

    def __init__(self, blocks: Sequence[ResnetBlock], attention: MakeAttention | None):
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attention(block.out_channels) for block in blocks if attention)

    def at(self, i: int, x: Tensor, temb: Tensor | None) -> Tensor:
        """Block ``i`` and its attention."""
        x = self.block[i](x, temb)
        return self.attn[i](x) if self.attn else x


class DownLevel(Level):
    """A level of the encoder, at its end the way to half the resolution."""

    def __init__(
        self, blocks: Sequence[ResnetBlock], attention: MakeAttention | None, downsample: Downsample | None
    ):
        super().__init__(blocks, attention)
        if downsample is not None:  # absent otherwise, as in the official class
            self.downsample = downsample

    def forward(self, x: Tensor, temb: Tensor | None = None) -> list[Tensor]:
        """The features after every block and after the halving: the skips, of which the last leads on."""
        features = [x]
        for i in range(len(self.block)):
            features.append(self.at(i, features[-1], temb))
        if hasattr(self, "downsample"):
            features.append(self.downsample(features[-1]))
        return features[1:]


class UpLevel(Level):
    """A level of the decoder, at its end the way to the double resolution."""

    def __init__(
        self, blocks: Sequence[ResnetBlock], attention: MakeAttention | None, upsample: Upsample | None
    ):
        super().__init__(blocks, attention)
        if upsample is not None:  # absent otherwise, as in the official class
            self.upsample = upsample

    def forward(self, x: Tensor, temb: Tensor | None = None, skips: list[Tensor] | None = None) -> Tensor:
        """Every block takes the last of ``skips`` off the list and is given the concatenation ``[u, d]``."""
        for i in range(len(self.block)):
            x = self.at(i, x if skips is None else torch.cat([x, skips.pop()], dim=1), temb)
        return self.upsample(x) if hasattr(self, "upsample") else x


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(
        self, make_block: Callable[[int, int], ResnetBlock], attention: MakeAttention, channels: int
    ):
        super().__init__()
        self.block_1 = make_block(channels, channels)
        self.attn_1 = attention(channels)
        self.block_2 = make_block(channels, channels)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, temb)), temb)
