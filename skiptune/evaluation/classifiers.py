"""Three small classifiers whose penultimate activations serve as features at desk scale.

Common constructor `(in_channels, resolution, num_classes, width, num_features)`. `forward` takes images
[N, C, R, R] float in [-1, 1] (differentiable) and returns {"features": [N, num_features], "logits": [N, K]}.
None of them normalises over the batch: an image's features do not depend on the images beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skiptune.errors import SkiptuneError


class DeskCNN(nn.Module):
    """Six 3x3 convolutions, two of stride 2, and global average pooling; fast, the FID feature network."""

    def __init__(
        self, in_channels: int, resolution: int, num_classes: int, width: int = 32, num_features: int = 64
    ) -> None:
        super().__init__()
        _check(resolution, 4)
        plan = [
            (in_channels, width, 1),
            (width, width, 2),
            (width, 2 * width, 1),
            (2 * width, 2 * width, 2),
            (2 * width, 2 * width, 1),
            (2 * width, num_features, 1),
        ]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride, 1) for i, o, stride in plan)
        for convolution in self.convolutions:  # without normalisation the variance must be kept by the start
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = images.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        features = x.mean((2, 3))
        return {"features": features, "logits": self.head(features)}


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection, groups normalised before each (He et al. 2016, v2)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        same = channels_in == channels_out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return self.skip(x) + y


class DeskResNet(nn.Module):
    """Pre-activation residual network: a stem and three blocks, two of stride 2, with group normalisation."""

    def __init__(
        self, in_channels: int, resolution: int, num_classes: int, width: int = 32, num_features: int = 64
    ) -> None:
        super().__init__()
        _check(resolution, 4)
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1)
        self.blocks = nn.Sequential(
            _ResidualBlock(width, 2 * width, 2),
            _ResidualBlock(2 * width, 2 * width, 2),
            _ResidualBlock(2 * width, num_features, 1),
        )
        self.norm = nn.GroupNorm(8, num_features)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.blocks(self.stem(images.contiguous(memory_format=torch.channels_last)))
        features = F.relu(self.norm(x)).mean((2, 3))
        return {"features": features, "logits": self.head(features)}


class _TransformerBlock(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron of fourfold width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.proj(attended)
        return x + self.mlp(self.norm2(x))


class DeskViT(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021) on `grid` x `grid` patches, mean-pooled."""

    def __init__(
        self,
        in_channels: int,
        resolution: int,
        num_classes: int,
        width: int = 64,
        num_features: int = 64,
        depth: int = 4,
        heads: int = 4,
        grid: int = 4,
    ) -> None:
        super().__init__()
        _check(resolution, grid)
        patch = resolution // grid
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, grid**2, width))
        self.blocks = nn.Sequential(*(_TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, num_features)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        features = F.gelu(self.project(self.norm(self.blocks(x)).mean(1)))
        return {"features": features, "logits": self.head(features)}


ARCHITECTURES: dict[str, type[nn.Module]] = {
    "DeskCNN": DeskCNN,
    "DeskResNet": DeskResNet,
    "DeskViT": DeskViT,
}


def _check(resolution: int, divisor: int) -> None:
    if resolution % divisor:
        raise SkiptuneError(f"resolution {resolution} is no multiple of {divisor}: choose one that is")
