"""Encoder, decoder and codebook of the first stages of latent diffusion; names are the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skiptune.denoisers.layers import silu
from skiptune.denoisers.resnet_blocks import (
    AttnBlock,
    DownLevel,
    Downsample,
    MakeAttention,
    Middle,
    ResnetBlock,
    UpLevel,
    Upsample,
    group_norm,
)
from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class FirstStage:
    """The official ``ddconfig``, which describes encoder and decoder together.

    Attributes:
        ch, ch_mult: channels of level i are ``ch * ch_mult[i]``; level 0 is the full resolution.
        num_res_blocks: blocks per level of the encoder; the decoder has one more.
        attn_resolutions: in pixels; attention follows every block there, and always in the middle.
        in_channels, out_ch, z_channels: of image, reconstruction and latent.
        resolution: of the image, in pixels.
        double_z: the encoder gives mean and log-variance.
        attn_type: ``vanilla``, or ``none`` for no attention at all.
        tanh_out: bound the reconstruction to [-1, 1].
    """

    ch: int
    out_ch: int
    num_res_blocks: int
    attn_resolutions: Sequence[int]
    in_channels: int
    resolution: int
    z_channels: int
    ch_mult: Sequence[int] = (1, 2, 4, 8)
    double_z: bool = True
    dropout: float = 0.0
    resamp_with_conv: bool = True
    attn_type: str = "vanilla"
    tanh_out: bool = False

    def __post_init__(self) -> None:
        if self.attn_type not in ("vanilla", "none"):
            raise SkiptuneError(f"attn_type {self.attn_type!r} is not supported; choose vanilla or none")

    @property
    def widths(self) -> list[int]:
        return [self.ch * mult for mult in self.ch_mult]

    @property
    def latent_resolution(self) -> int:
        return self.resolution // 2 ** (len(self.ch_mult) - 1)

    def block(self, channels: int, out: int) -> ResnetBlock:
        return ResnetBlock(channels, out, dropout=self.dropout)

    def attention(self, level: int) -> MakeAttention | None:
        """The attention of a level, ``None`` where it has none."""
        resolution = self.resolution // 2**level
        return AttnBlock if resolution in self.attn_resolutions and self.attn_type == "vanilla" else None

    def middle(self) -> Middle:
        return Middle(self.block, AttnBlock if self.attn_type == "vanilla" else nn.Identity, self.widths[-1])


class Encoder(nn.Module):
    """Images ``[N, C, H, W]`` to ``[N, z_channels or 2 z_channels, h, w]``."""

    def __init__(self, stage: FirstStage):
        super().__init__()
        widths, channels = stage.widths, stage.ch
        self.conv_in = nn.Conv2d(stage.in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            inputs = [channels] + [width] * (stage.num_res_blocks - 1)
            halve = Downsample(width, stage.resamp_with_conv) if level < len(widths) - 1 else None
            blocks = [stage.block(c, width) for c in inputs]
            self.down.append(DownLevel(blocks, stage.attention(level), halve))
            channels = width
        self.mid = stage.middle()
        self.norm_out = group_norm(channels)
        out = 2 * stage.z_channels if stage.double_z else stage.z_channels
        self.conv_out = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)[-1]
        return self.conv_out(silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """``[N, z_channels, h, w]`` to images ``[N, C, H, W]``."""

    def __init__(self, stage: FirstStage):
        super().__init__()
        self.tanh_out, channels = stage.tanh_out, stage.widths[-1]
        self.conv_in = nn.Conv2d(stage.z_channels, channels, 3, padding=1)
        self.mid = stage.middle()
        up: list[UpLevel] = []
        for level, width in reversed(list(enumerate(stage.widths))):
            inputs = [channels] + [width] * stage.num_res_blocks
            double = Upsample(width, stage.resamp_with_conv) if level else None
            blocks = [stage.block(c, width) for c in inputs]
            up.append(UpLevel(blocks, stage.attention(level), double))
            channels = width
        self.up = nn.ModuleList(reversed(up))
        self.norm_out = group_norm(channels)
        self.conv_out = nn.Conv2d(channels, stage.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(silu(self.norm_out(h)))
        return h.tanh() if self.tanh_out else h


class Quantizer(nn.Module):
    """A codebook of ``entries`` vectors of ``width`` channels (van den Oord et al. 2017)."""

    def __init__(self, entries: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(entries, width)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest entries ``[N, width, h, w]`` and their indices ``[N, h, w]`` int64.

        The gradient passes the rounding unchanged (straight-through).
        """
        codes = self.embedding.weight
        squares = codes.square().sum(dim=1)

        def nearest(points: Tensor) -> Tensor:
            # Expanded as in the official code, so that near ties round alike.
            distance = points.square().sum(dim=1, keepdim=True) + squares - 2 * points @ codes.T
            return distance.argmin(dim=1)

        points = z.permute(0, 2, 3, 1).flatten(0, 2)
        # In pieces: all distances of a batch at once would take n_embed / embed_dim times its memory.
        index = torch.cat([nearest(piece) for piece in points.split(4096)])
        index = index.reshape(z.shape[0], *z.shape[2:])
        entries = self.embedding(index).permute(0, 3, 1, 2)
        return z + (entries - z).detach(), index
