"""Magnitude-preserving layers of EDM2: inputs of unit variance give outputs of unit variance.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"; the equations named
here are those of its appendix B. Parameter names and shapes equal the published state dicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.layers import Resample, filter_kernel

SILU_GAIN = 0.596
"""Standard deviation of ``silu(n)`` for standard normal ``n`` (eq. 81), rounded as published."""


def normalize(x: Tensor, dim: int | Sequence[int], eps: float = 1e-4) -> Tensor:
    """Divide by ``eps`` plus the root mean square over ``dim``; the norm is taken in float32."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    scale = eps + norm * math.sqrt(norm.numel() / x.numel())
    return x / scale.to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over its standard deviation (eq. 81); ``x`` itself is left as it is."""
    return F.silu(x).div_(SILU_GAIN)


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)`` (eq. 88)."""
    return a.lerp(b, t).div_(math.hypot(1 - t, t))


def concat_weights(u_channels: int, d_channels: int, t: float) -> tuple[float, float]:
    """Factors ``(w_u, w_d)`` of the parts of a magnitude-preserving concatenation (eq. 103)."""
    common = math.sqrt((u_channels + d_channels) / ((1 - t) ** 2 + t**2))
    return common / math.sqrt(u_channels) * (1 - t), common / math.sqrt(d_channels) * t


def mp_cat(u: Tensor, d: Tensor, t: float) -> Tensor:
    """``[w_u u, w_d d]`` along the channels: both parts contribute in the ratio ``1 - t : t`` whatever their
    widths (eq. 103)."""
    w_u, w_d = concat_weights(u.shape[1], d.shape[1], t)
    return torch.cat([w_u * u, w_d * d], dim=1)


class MPSiLU(nn.Module):
    """``mp_silu`` as a module without parameters, where hooks are to find it."""

    def forward(self, x: Tensor) -> Tensor:
        return mp_silu(x)


class MPFourier(nn.Module):
    """``sqrt(2) cos(freqs x + phases)``, fixed random frequencies and phases (eq. 75): ``[N] -> [N, C]``."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, channels: int, bandwidth: float = 1.0):
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(channels) * bandwidth)
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        phase = torch.outer(x.to(torch.float32), self.freqs.to(torch.float32))
        return ((phase + self.phases.to(torch.float32)).cos() * math.sqrt(2)).to(x.dtype)


@dataclass(frozen=True)
class KeptWeight:
    """A normalised weight and what it was computed from."""

    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]
    weight: Tensor

    def is_of(self, sources: tuple[Tensor, ...], dtype: torch.dtype) -> bool:
        same = [id(source) for source in sources] == [id(source) for source in self.sources]
        return same and self.versions == versions(sources) and self.weight.dtype == dtype


def versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in tensors)


class MPConv(nn.Module):
    """Convolution or (``kernel=0``) linear layer whose weight vectors are normalised at every use (eq. 47).

    In training the stored weights are normalised too (forced weight normalisation, eq. 66). In evaluation the
    normalised weight is kept, which changes no bit; loading, moving, training and every in-place change of
    the parameters make it be computed again. Only writes through ``parameter.data`` go unnoticed: call
    ``eval()`` after them.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 0):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel = in_channels, out_channels, kernel
        area = (kernel, kernel) if kernel else ()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *area))
        self.kept: KeptWeight | None = None

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """``gain`` is a scalar factor of the weight, 1 if not given."""
        if self.training:
            with torch.no_grad():
                self.weight.copy_(self.normalized())
        weight = self.scaled(gain, x.dtype)
        return F.conv2d(x, weight, padding=self.kernel // 2) if self.kernel else x @ weight.t()

    def normalized(self) -> Tensor:
        weight = self.weight.to(torch.float32)
        return normalize(weight, dim=list(range(1, weight.ndim)))

    def scaled(self, gain: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The weight that is used: unit vectors times ``gain``, over the square root of the fan-in."""
        sources = (self.weight,) if gain is None else (self.weight, gain)
        if not self.can_keep(sources):
            return self.compute(gain, dtype)
        if self.kept is None or not self.kept.is_of(sources, dtype):
            # Outside of inference mode, so that later calls may ask for gradients of their input.
            with torch.inference_mode(False), torch.no_grad():
                self.kept = KeptWeight(sources, versions(sources), self.compute(gain, dtype))
        return self.kept.weight

    def compute(self, gain: Tensor | None, dtype: torch.dtype) -> Tensor:
        root = math.sqrt(self.weight[0].numel())
        return (self.normalized() * (1 / root if gain is None else gain / root)).to(dtype)

    def can_keep(self, sources: Sequence[Tensor]) -> bool:
        if self.training or torch.compiler.is_compiling():
            return False
        differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sources)
        return not differentiated and not any(tensor.is_inference() for tensor in sources)

    def train(self, mode: bool = True) -> Self:
        self.kept = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.kept = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None}


def self_attention(qkv: Tensor, heads: int) -> Tensor:
    """Attention between positions with pixel-normalised queries, keys and values.

    ``qkv`` is ``[N, 3C, H, W]`` with channels ordered (head, channel, q|k|v).
    """
    n, channels, height, width = qkv.shape
    channels //= 3
    # Fused kernels want the channels of a head next to each other; other strides fall back to a slow path.
    split = qkv.reshape(n, heads, channels // heads, 3, height * width).permute(3, 0, 1, 4, 2).contiguous()
    q, k, v = normalize(split, dim=-1).unbind(0)
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(2, 3).reshape(n, channels, height, width)


class Resampling(nn.Module):
    """Keeps, halves or doubles the resolution with a low-pass filter; without buffers, as published."""

    def __init__(self, mode: str, taps: Sequence[float]):
        super().__init__()
        self.filter = None if mode == "keep" else Resample(taps, up=mode == "up")
        with torch.device("cpu"):  # values are needed, also where the network is built on the meta device
            self.kernel = filter_kernel(taps)

    def forward(self, x: Tensor) -> Tensor:
        if self.filter is None:
            return x
        return self.filter(x, self.kernel if self.filter.is_box else self.kernel.to(x.device))
