"""Layers shared by the EDM network families; parameter names and shapes equal the published state dicts.

Formulas: Karras et al. 2022, appendix F.2; Dhariwal & Nichol 2021 (ADM); Song et al. 2021 (DDPM++, NCSN++).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.normalisation import group_norm


def filter_kernel(taps: Sequence[float]) -> Tensor:
    """Separable low-pass filter of unit sum, ``[1, 1, K, K]`` float32."""
    kernel = torch.as_tensor(taps, dtype=torch.float32)
    return (torch.outer(kernel, kernel) / kernel.sum().square())[None, None]


class Resample(nn.Module):
    """Doubles or halves the resolution with a separable low-pass filter.

    ``[1, 1]`` is box averaging and nearest-neighbour repetition, for which the dedicated kernels are used.
    """

    def __init__(self, taps: Sequence[float], up: bool):
        super().__init__()
        self.up, self.padding = up, (len(taps) - 1) // 2
        self.is_box = list(taps) == [1, 1]

    def forward(self, x: Tensor, kernel: Tensor, padding: int | None = None) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, 2H, 2W]`` or ``[N, C, H/2, W/2]``.

        ``kernel`` is ``filter_kernel(taps)``, which the published state dicts carry.
        """
        if self.is_box and padding is None:
            return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.avg_pool2d(x, 2)
        channels, padding = x.shape[1], self.padding if padding is None else padding
        kernel = kernel.to(x.dtype).expand(channels, 1, -1, -1)
        if self.up:
            return F.conv_transpose2d(x, 4 * kernel, groups=channels, stride=2, padding=padding)
        return F.conv2d(x, kernel, groups=channels, stride=2, padding=padding)


class Conv2d(nn.Module):
    """Convolution with optional resampling in front; ``kernel=0`` resamples only.

    ``fused_resample`` (the residual encoder of NCSN++) convolves first, with the padding of both, and filters
    afterwards.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        up: bool = False,
        down: bool = False,
        taps: Sequence[float] = (1, 1),
        fused_resample: bool = False,
        init_scale: float = 1.0,
    ):
        super().__init__()
        self.padding, self.fused_resample = kernel // 2, fused_resample
        self.resample = Resample(taps, up) if up or down else None
        if self.resample is not None:
            self.register_buffer("resample_filter", filter_kernel(taps))
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if kernel:
            self.weight = nn.Parameter(xavier_uniform(out_channels, in_channels, kernel, kernel) * init_scale)
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        fused = self.fused_resample and self.resample is not None
        if self.resample is not None and not fused:
            x = self.resample(x, self.resample_filter)
        if self.weight is None or self.bias is None:
            return x
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.resample is None or not fused:
            return F.conv2d(x, weight, bias, padding=self.padding)
        y = F.conv2d(x, weight, padding=self.padding + self.resample.padding)
        return self.resample(y, self.resample_filter, padding=0) + bias.reshape(1, -1, 1, 1)


def xavier_uniform(out_features: int, in_features: int, *kernel: int) -> Tensor:
    """Uniform initial weights with variance ``2 / (fan_in + fan_out)``."""
    area = math.prod(kernel)
    bound = math.sqrt(6 / ((in_features + out_features) * area))
    return torch.empty(out_features, in_features, *kernel).uniform_(-bound, bound)


def kaiming_uniform(out_features: int, in_features: int, *kernel: int) -> Tensor:
    """Uniform initial weights with variance ``1 / fan_in``."""
    bound = math.sqrt(3 / (in_features * math.prod(kernel)))
    return torch.empty(out_features, in_features, *kernel).uniform_(-bound, bound)


def kaiming_(*layers: Conv2d | nn.Linear, scale: float = math.sqrt(1 / 3)) -> None:
    """Redraw weights and biases as ADM does: uniform with variance ``scale^2 / fan_in``."""
    for layer in layers:
        weight, bias = layer.weight, layer.bias
        if weight is not None:
            fan_in = weight[0].numel()
            bound = scale * math.sqrt(3 / fan_in)
            nn.init.uniform_(weight, -bound, bound)
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound)


class PositionalEmbedding(nn.Module):
    """Cosines, then sines, of the noise label at log-spaced frequencies: ``[N] -> [N, width]``."""

    def __init__(self, width: int, endpoint: bool = False, max_period: float = 10000.0):
        super().__init__()
        self.count, self.endpoint, self.max_period = width // 2, endpoint, max_period

    def forward(self, label: Tensor) -> Tensor:
        index = torch.arange(self.count, dtype=torch.float32, device=label.device)
        frequency = (1 / self.max_period) ** (index / (self.count - int(self.endpoint)))
        phase = torch.outer(label, frequency.to(label.dtype))
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """Cosines, then sines, of the noise label at fixed random frequencies: ``[N] -> [N, width]``."""

    freqs: Tensor

    def __init__(self, width: int, scale: float = 16.0):
        super().__init__()
        self.register_buffer("freqs", torch.randn(width // 2) * scale)

    def forward(self, label: Tensor) -> Tensor:
        phase = torch.outer(label, (2 * math.pi * self.freqs).to(label.dtype))
        return torch.cat([phase.cos(), phase.sin()], dim=1)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else holds: in place where no gradient is asked for."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def self_attention(qkv: Tensor, heads: int) -> Tensor:
    """Attention over positions. ``qkv`` is ``[N, 3C, H, W]`` with channels ordered (head, channel, q|k|v)."""
    n, channels, height, width = qkv.shape
    channels //= 3
    # Fused kernels want the channels of a head next to each other; other strides fall back to a slow path.
    split = qkv.reshape(n, heads, channels // heads, 3, height * width).permute(3, 0, 1, 4, 2).contiguous()
    q, k, v = split.float().unbind(0)
    out = F.scaled_dot_product_attention(q, k, v).to(qkv.dtype)
    return out.transpose(2, 3).reshape(n, channels, height, width)


class UNetBlock(nn.Module):
    """Residual block, optionally resampling, optionally followed by self-attention.

    ``x -> norm0 -> silu -> conv0 -> norm1, modulated by the embedding -> silu -> dropout -> conv1``, plus the
    shortcut ``skip(x)``; the sum and the attention branch are multiplied by ``skip_scale``. A decoder block
    receives the concatenation ``[u, d]`` of decoder and skip features as ``x`` (Skip-Tuning, appendix C).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        *,
        up: bool = False,
        down: bool = False,
        heads: int = 0,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        taps: Sequence[float] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
        zero_scale: float = 0.0,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.heads, self.dropout, self.skip_scale, self.adaptive_scale = (
            heads,
            dropout,
            skip_scale,
            adaptive_scale,
        )
        self.norm0 = group_norm(in_channels, eps)
        self.conv0 = Conv2d(in_channels, out_channels, 3, up=up, down=down, taps=taps)
        self.affine = nn.Linear(emb_channels, out_channels * (2 if adaptive_scale else 1))
        self.norm1 = group_norm(out_channels, eps)
        self.conv1 = Conv2d(out_channels, out_channels, 3, init_scale=zero_scale)
        self.skip: Conv2d | None = None
        changes_width = out_channels != in_channels
        if changes_width or up or down:
            kernel = 1 if changes_width or resample_proj else 0
            self.skip = Conv2d(in_channels, out_channels, kernel, up=up, down=down, taps=taps)
        if heads:
            self.norm2 = group_norm(out_channels, eps)
            self.qkv = Conv2d(out_channels, out_channels * 3, 1)
            self.proj = Conv2d(out_channels, out_channels, 1, init_scale=zero_scale)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``x`` is ``[N, in, H, W]``, ``emb`` is ``[1 or N, emb]``."""
        shortcut = x if self.skip is None else self.skip(x)
        h = self.conv0(silu(self.norm0(x)))
        modulation = self.affine(emb)[:, :, None, None].to(h.dtype)
        if self.adaptive_scale:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.norm1(h, (scale + 1, shift))
        else:
            h = self.norm1(h + modulation)
        h = self.conv1(F.dropout(silu(h), self.dropout, self.training))
        x = self.scale_sum(h, shortcut)
        if self.heads:
            x = self.scale_sum(self.proj(self_attention(self.qkv(self.norm2(x)), self.heads)), x)
        return x

    def scale_sum(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b if self.skip_scale == 1.0 else (a + b) * self.skip_scale
