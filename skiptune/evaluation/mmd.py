"""Maximum mean discrepancy (Gretton et al., JMLR 2012) for any number of kernels in one pass over the blocks.

All sums are taken in float64: the three kernel means agree to several digits, which the difference loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.evaluation.blocks import ALONE, BLOCK, Team, all_pairs, blocks, check_features
from skiptune.evaluation.kernels import RBF, Kernel

# CMMD (Jayasumana et al., arXiv 2401.09603): Gaussian of this sigma, value times this scale.
CMMD_KERNEL, CMMD_SCALE = RBF(10.0), 1000.0


@dataclass(frozen=True)
class MMD:
    """Squared MMD: `unbiased` without i = j (Lemma 6, may be negative), `biased` with it (Eq. 5, >= 0)."""

    unbiased: float
    biased: float


@dataclass(frozen=True)
class KernelSums:
    """Sums of each kernel, float64 [K], over all pairs within a set of `count` images and over i = j."""

    count: int
    total: Tensor
    diagonal: Tensor


def within(x: Tensor, kernels: Sequence[Kernel], block: int = BLOCK, team: Team = ALONE) -> KernelSums:
    """Kernel sums within features [N, d]: of the reference they need be computed once for all rows.

    Raises SkiptuneError for features that are no finite matrix of 2 or more images.
    """
    check_features(x, least=2)
    count = len(blocks(len(x), block))
    sums = x.new_zeros(count * (count + 1) // 2, 2, len(kernels), dtype=torch.float64)
    for number, pairs in all_pairs(x, None, block, team):
        for k, kernel in enumerate(kernels):
            values = kernel(pairs)
            sums[number, 0, k] = values.sum() * (1 if pairs.same else 2)
            sums[number, 1, k] = values.diagonal().sum() if pairs.same else 0
    total, diagonal = team.total(sums).sum(0)
    return KernelSums(len(x), total, diagonal)


def between(
    x: Tensor, y: Tensor, kernels: Sequence[Kernel], block: int = BLOCK, team: Team = ALONE
) -> Tensor:
    """Sum of every kernel over all pairs of x [N, d] and y [M, d]: float64 [K]. Raises as `within`."""
    check_features(x, y)
    sums = x.new_zeros(
        len(blocks(len(x), block)) * len(blocks(len(y), block)), len(kernels), dtype=torch.float64
    )
    for number, pairs in all_pairs(x, y, block, team):
        sums[number] = torch.stack([kernel(pairs).sum() for kernel in kernels])
    return team.total(sums).sum(0)


def mmd(
    x: Tensor,
    y: Tensor,
    kernels: Sequence[Kernel],
    block: int = BLOCK,
    team: Team = ALONE,
    y_sums: KernelSums | None = None,
) -> list[MMD]:
    """Squared MMD between features x [N, d] and y [M, d], one value per kernel.

    `block` rows bound the memory; `y_sums` = `within(y, kernels)` if known. Raises SkiptuneError for
    features that are no finite matrices of one dimension with 2 or more images each.
    """
    check_features(x, y, least=2)
    of_x = within(x, kernels, block, team)
    of_y = within(y, kernels, block, team) if y_sums is None else y_sums
    cross = between(x, y, kernels, block, team) / (len(x) * len(y))
    unbiased = sum(
        ((s.total - s.diagonal) / (s.count * (s.count - 1)) for s in (of_x, of_y)), start=-2 * cross
    )
    biased = sum((s.total / s.count**2 for s in (of_x, of_y)), start=-2 * cross)
    return [MMD(*pair) for pair in zip(unbiased.tolist(), biased.tolist(), strict=True)]


def cmmd(x: Tensor, y: Tensor, block: int = BLOCK, team: Team = ALONE) -> float:
    """CMMD: 1000 times the biased MMD^2 with a Gaussian of sigma 10, on CLIP image embeddings [N, d].

    The embeddings are scaled to norm 1 by their extractor, not here. Raises as `mmd`.
    """
    return CMMD_SCALE * mmd(x, y, [CMMD_KERNEL], block, team)[0].biased
