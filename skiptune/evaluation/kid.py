"""Kernel inception distance (Binkowski et al., arXiv 1801.01401), as torch-fidelity 0.4 defines it.

Every pair of images is looked at once for all subsets that hold it, wherever the subsets overlap so much that
this takes fewer pairs than the subsets one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import ALONE, Team, blocks, centred, check_features, mean, upper_pairs

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
_BLOCK = 512

_SINGLE = 512  # features from which products may be in float32: the value's rounding is divided by them
TOLERANCE = 1e-6


@dataclass(frozen=True)
class KID:
    """Mean and standard deviation (divided by n) of the unbiased MMD^2 over the subsets."""

    mean: float
    std: float


def kid(
    generated: Tensor,
    real: Tensor,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
    team: Team = ALONE,
) -> KID:
    """MMD^2 with the kernel (x y / d + 1)^3, over random subsets of features [N, d] and [M, d].

    Each subset is drawn without replacement, of the generated images first, by NumPy's RandomState(seed).
    float64; products of 512 or more features that are float32 are taken in float32 about the mean, unless
    their rounding might move the value by a millionth of it. Memory is bounded by `subset_size`.
    Raises SkiptuneError if a subset has more images than there are, or for features that are no finite
    matrices of one dimension.
    """
    if subsets < 1 or subset_size < 2:
        raise SkiptuneError(f"KID of {subsets} subsets of {subset_size} images: use 1 of 2 images or more")
    check_features(generated, real)
    if min(len(generated), len(real)) < subset_size:
        raise SkiptuneError(
            f"KID subsets of {subset_size} images need as many generated and real ones, got "
            f"{len(generated)} and {len(real)}: lower subset_size"
        )
    random = np.random.RandomState(seed)
    drawn = [
        [torch.from_numpy(random.choice(len(side), subset_size, replace=False)) for side in (generated, real)]
        for _ in range(subsets)
    ]
    single = generated.shape[1] >= _SINGLE and torch.float64 not in (generated.dtype, real.dtype)
    if single:
        values = _values(generated, real, drawn, torch.float32, team)
        single = _rounding(generated, real) <= TOLERANCE * abs(float(values.mean()))
    if not single:
        values = _values(generated, real, drawn, torch.float64, team)
    found = values.cpu().numpy()
    return KID(float(found.mean()), float(found.std()))


def _centre(real: Tensor) -> Tensor:
    """Their mean [d], float64, of values that float32 has, so that nothing is lost when it is subtracted."""
    return mean(real).float().double()


def _rounding(generated: Tensor, real: Tensor) -> float:
    """By how much products in float32 may move the value: their error times the slope of the kernel.

    Errors of the three means together were seen up to 1e-10 |u| |v| at 512 to 2048 features; 1e-9 here.
    """
    centre, d = _centre(real), real.shape[1]
    spread = max(
        float(centred(side[:_BLOCK], centre, torch.float64).square().sum(1).mean())
        for side in (generated, real)
    )
    return 3 * (float(centre @ centre) / d + 1) ** 2 * 1e-9 * spread / d


def _values(
    generated: Tensor, real: Tensor, drawn: Sequence[Sequence[Tensor]], dtype: torch.dtype, team: Team
) -> Tensor:
    """Unbiased MMD^2 [subsets] of the rows drawn for each subset, with products in `dtype`."""
    centre, size = _centre(real), len(drawn[0][0])
    if (len(generated) + len(real)) ** 2 <= len(drawn) * (2 * size) ** 2:
        x, y = (
            _Side.of(side, centre, _members(len(side), rows), dtype)
            for side, rows in zip((generated, real), zip(*drawn, strict=True), strict=True)
        )
        return _distances(x, y, size, team)
    everyone = torch.ones(1, size, dtype=torch.float64)
    values = generated.new_zeros(len(drawn), dtype=torch.float64)
    for t in team.share(range(len(drawn))):
        x, y = (
            _Side.of(side[rows], centre, everyone, dtype)
            for side, rows in zip((generated, real), drawn[t], strict=True)
        )
        values[t] = _distances(x, y, size, ALONE)[0]
    return team.total(values)


def _members(count: int, subsets: tuple[Tensor, ...]) -> Tensor:
    """float64 [subsets, count]: 1 where the image belongs to the subset."""
    members = torch.zeros(len(subsets), count, dtype=torch.float64)
    return members.scatter_(1, torch.stack(subsets), 1.0)


@dataclass(frozen=True)
class _Side:
    """Rows u [n, d] about the centre c, `along` [n] = u c / d in float64, and who is in which subset.

    Of the images as they are, x y / d + 1 = u v / d + along_u + along_v + level, level = c c / d + 1.
    """

    rows: Tensor
    along: Tensor
    level: float
    members: Tensor

    @classmethod
    def of(cls, features: Tensor, centre: Tensor, members: Tensor, dtype: torch.dtype) -> _Side:
        d = features.shape[1]
        parts = [centred(part, centre, torch.float64) @ centre for part in features.split(_BLOCK)]
        level = float(centre @ centre) / d + 1
        return cls(centred(features, centre, dtype), torch.cat(parts) / d, level, members.to(features.device))


def _distances(x: _Side, y: _Side, size: int, team: Team) -> Tensor:
    """Unbiased MMD^2 [subsets] by blocks of pairs; the upper ones where the matrix is symmetric."""
    within, between = 1 / (size * (size - 1)), -2 / size**2
    plan = [
        (side, a, side, b, within if a == b else 2 * within)
        for side in (x, y)
        for a, b in upper_pairs(blocks(len(side.rows), _BLOCK))
    ]
    plan += [(x, a, y, b, between) for a in blocks(len(x.rows), _BLOCK) for b in blocks(len(y.rows), _BLOCK)]
    sums = x.along.new_zeros(len(plan), len(x.members))
    for number, (left, a, right, b, weight) in team.share(list(enumerate(plan))):
        kernel = _kernel(left, a, right, b)
        if left is right and a == b:
            kernel.fill_diagonal_(0)
        sums[number] = weight * ((left.members[:, a] @ kernel) * right.members[:, b]).sum(1)
    return team.total(sums).sum(0)


def _kernel(x: _Side, a: slice, y: _Side, b: slice) -> Tensor:
    """(x y / d + 1)^3 - level^3: the constant cancels in MMD^2 and would cost digits of far features."""
    products = x.rows[a] @ y.rows[b].T
    above = torch.add(y.along[b], products, alpha=1 / x.rows.shape[1])  # to float64 in the same pass
    above += x.along[a, None]
    return (above + 3 * x.level).mul_(above).add_(3 * x.level**2).mul_(above)
