"""The spatial transformer of latent diffusion: image features attend to themselves and to condition tokens.

Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.3 and appendix
E.2.1; parameter names of CompVis/latent-diffusion.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.guided_layers import Conv2d, attend, zeroed
from skiptune.denoisers.normalisation import GroupNorm


class Linear(nn.Linear):
    """Linear map of float16 tokens too: its parameters stay float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """Normalisation of float16 tokens too: its parameters stay float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class CrossAttention(nn.Module):
    """Tokens ``x [N, L, C]`` attend to ``context [N, T, D]``, to themselves without one."""

    def __init__(self, width: int, context_width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.to_q = Linear(width, inner, bias=False)
        self.to_k = Linear(context_width, inner, bias=False)
        self.to_v = Linear(context_width, inner, bias=False)
        self.to_out = nn.Sequential(Linear(inner, width), nn.Identity())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        out = attend(self.split(self.to_q(x)), self.split(self.to_k(source)), self.split(self.to_v(source)))
        return self.to_out(out.transpose(1, 2).flatten(2))

    def split(self, tokens: Tensor) -> Tensor:
        """``[N, L, heads * D] -> [N, heads, L, D]``."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class GEGLU(nn.Module):
    """Linear map gated by the GELU of another one (Shazeer 2020)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Gated two-layer network on every token, four times as wide inside."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward; each on normalised tokens and added to its input."""

    def __init__(self, width: int, context_width: int, heads: int, head_width: int):
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads, head_width)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context_width, heads, head_width)
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """Transformer blocks on the positions of an image, between 1x1 convolutions, added to the image.

    Args:
        context_width: channels of the condition tokens.
    """

    def __init__(self, channels: int, heads: int, head_width: int, depth: int, context_width: int):
        super().__init__()
        inner = heads * head_width
        self.norm = GroupNorm(32, channels, eps=1e-6)
        self.proj_in = Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(inner, context_width, heads, head_width) for _ in range(depth)
        )
        self.proj_out = zeroed(Conv2d(inner, channels, 1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``x`` is ``[N, C, H, W]``, ``context`` is ``[N, T, context_width]``."""
        h = self.proj_in(self.norm(x))
        size = h.shape[2:]
        h = h.flatten(2).transpose(1, 2)
        context = None if context is None else context.to(h.dtype)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, size))
