"""Proposition 1 measured (Importance Probe, Eq. 3 and 4): variances of block outputs with known noise.

The text writes the output of block i as ``y_i = f_i(x0) + g_i(eps) + n_i``. Where every clean image meets
every noise, the three parts are those of a two-way analysis of variance: the mean over noises, the mean over
images, and what neither explains. By Eq. 4 ``w_i = Var g / (Var g + Var f + Var n)`` is best, never above 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.blocks import BlockReweighting, TransformerBlock, find_transformer_blocks

CHANGE = 1 / 64  # of a weight, for derivatives: exact in float32, large against rounding, small against 1


@dataclass(frozen=True, eq=False)
class VarianceTerms:
    """The terms of Eq. 4 by step and block, ``[S, m]`` float64.

    Attributes:
        signal, noise, intrinsic: Var f, Var g and Var n: over images and noises, mean over the elements of
            the outputs of the block's transformers; estimates without bias, at the least 0.
        gain: A, root mean square of the change of the noise prediction per relative change of the block's
            output, over that of the output.
    """

    signal: Tensor
    noise: Tensor
    intrinsic: Tensor
    gain: Tensor

    @property
    def optimal(self) -> Tensor:
        """The weights in [0, 1] that minimise Eq. 4 ``[S, m]``; 1 for a block whose output never varies."""
        total = self.noise + self.signal + self.intrinsic
        return torch.where(total > 0, self.noise / total, 1.0)

    def error(self, weights: Tensor) -> Tensor:
        """Eq. 4 for block weights ``[S, m]``: the variance of the noise prediction's error ``[S]``."""
        parts = (weights - 1) ** 2 * self.noise + weights**2 * (self.signal + self.intrinsic)
        return (self.gain**2 * parts).sum(dim=-1)


def optimal_weights(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, sigmas: Sequence[float], condition: Tensor | None = None
) -> Tensor:
    """The weights that Eq. 4 implies, ``[S, m]`` float64 in [0, 1]; arguments as of ``variance_terms``."""
    return variance_terms(denoiser, x0, noise, sigmas, condition).optimal


def variance_terms(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, sigmas: Sequence[float], condition: Tensor | None = None
) -> VarianceTerms:
    """The terms of Eq. 4 at noise levels, for ``S K (m + 1)`` network calls on N images each.

    Args:
        denoiser: with a diffusers U-Net inside, its prompts fixed (``Prompted``, of 1 or N prompts).
        x0: clean images (latents) ``[N, C, H, W]``, N at least 2.
        noise: unit noises ``[K, C, H, W]``, K at least 2; all images meet every one of them.
        sigmas: the S levels, in image units.
        condition: one-hot classes ``[N, K]`` of a class-conditional network.

    Raises:
        SkiptuneError: fewer images or noises, a network without transformer blocks.
    """
    if min(len(x0), len(noise)) < 2:
        raise SkiptuneError(
            f"variances of Proposition 1 need at least 2 images and 2 noises, got {len(x0)} and {len(noise)}"
        )
    blocks = find_transformer_blocks(denoiser)
    steps = [_terms(denoiser, blocks, x0, noise, sigma, condition) for sigma in sigmas]
    return VarianceTerms(*torch.stack(steps, dim=1))


def _terms(
    denoiser: Denoiser,
    blocks: Sequence[TransformerBlock],
    x0: Tensor,
    noise: Tensor,
    sigma: float,
    condition: Tensor | None,
) -> Tensor:
    """Signal, noise, intrinsic, gain ``[4, m]`` at one level."""
    sums = [[CrossedSums() for _ in block.transformers] for block in blocks]
    changes = torch.zeros(len(blocks), dtype=torch.float64)
    for one in noise:
        with heard(blocks, sums):
            plain = predicted(denoiser, x0, one, sigma, condition)
        changes += torch.stack(
            [d.square().mean().cpu() for d in changed(denoiser, x0, one, sigma, condition, plain)]
        )
    found = []
    for several, change in zip(sums, changes / len(noise), strict=True):
        sizes = torch.tensor([float(one.elements) for one in several], dtype=torch.float64)
        values = torch.stack([torch.stack([*one.variances, one.square]) for one in several])
        signal, own, intrinsic, square = (sizes @ values / sizes.sum()).unbind()
        gain = (change / square).sqrt() if square > 0 else torch.zeros_like(square)
        found.append(torch.stack([*(v.clamp(min=0) for v in (signal, own, intrinsic)), gain]))
    return torch.stack(found, dim=1)


@torch.no_grad()
def predicted(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: float, condition: Tensor | None
) -> Tensor:
    """``(x - D) / sigma`` ``[N, C, H, W]`` float64 where ``noise`` ``[C, H, W]`` was added to all images."""
    device = next(denoiser.parameters()).device
    x = (x0 + sigma * noise).to(device)
    x0_hat = denoiser(x, torch.tensor(sigma), None if condition is None else condition.to(device))
    return (x.to(torch.float64) - x0_hat.to(torch.float64)) / sigma


def changed(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: float, condition: Tensor | None, plain: Tensor
) -> list[Tensor]:
    """Derivative of the noise prediction by every block's weight at 1, m times ``[N, C, H, W]`` float64.

    Args:
        plain: the prediction with all weights 1.
    """
    count = len(find_transformer_blocks(denoiser))
    found = []
    for weights in torch.ones(count, count) + CHANGE * torch.eye(count):
        with BlockReweighting(weights).attached_to(denoiser):
            found.append((predicted(denoiser, x0, noise, sigma, condition) - plain) / CHANGE)
    return found


@contextlib.contextmanager
def heard(blocks: Sequence[TransformerBlock], sums: Sequence[Sequence[CrossedSums]]) -> Iterator[None]:
    """Add the outputs of the transformers to their sums inside the ``with`` block."""

    def listen(to: CrossedSums) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            to.add(output[0] if isinstance(output, tuple) else output)

        return hook

    pairs = [
        (transformer.block, one)
        for block, several in zip(blocks, sums, strict=True)
        for transformer, one in zip(block.transformers, several, strict=True)
    ]
    handles = [module.register_forward_hook(listen(one)) for module, one in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(eq=False)
class CrossedSums:
    """Sums of a quantity over N images crossed with K noises, a noise at a time."""

    rows: Tensor | float = 0.0
    columns: list[Tensor] = field(default_factory=list)
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """The values ``[N, ...]`` of all images with the next noise."""
        flat = values.flatten(1).to("cpu", torch.float64)
        self.rows = self.rows + flat
        self.columns.append(flat.mean(dim=0))
        self.squares = self.squares + flat.square().sum()

    @property
    def elements(self) -> int:
        """Numbers of an image."""
        return len(self.columns[0])

    @property
    def square(self) -> Tensor:
        """Mean square over everything."""
        means, noises = self.row_means, len(self.columns)
        return torch.as_tensor(self.squares) / (means.numel() * noises)

    @property
    def row_means(self) -> Tensor:
        """``[N, D]``: the mean over the noises of every image."""
        return torch.as_tensor(self.rows) / len(self.columns)

    @property
    def variances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the image's part, the noise's part and the rest: estimates without bias, means over elements."""
        rows, columns = self.row_means, torch.stack(self.columns)
        (n, elements), k = rows.shape, len(columns)
        grand = rows.mean(dim=0)
        by_image = k * (rows - grand).square().sum()
        by_noise = n * (columns - grand).square().sum()
        rest = torch.as_tensor(self.squares) - n * k * grand.square().sum() - by_image - by_noise
        of_image, of_noise = by_image / (n - 1), by_noise / (k - 1)
        of_rest = rest / ((n - 1) * (k - 1))
        both = torch.stack([(of_image - of_rest) / k, (of_noise - of_rest) / n, of_rest]) / elements
        return both[0], both[1], both[2]
