"""Pairs of images block by block: distances of N x M images in memory that does not grow with N M."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import barrier, world

T = TypeVar("T")

# Rows of a block. A metric holds a few [BLOCK, BLOCK] and [BLOCK, d] arrays: below 0.2 GB at d = 2048.
BLOCK = 1024


@dataclass(frozen=True)
class Team:
    """The processes that compute a metric together: this one is `rank` of `size`.

    The blocks of a metric are independent, so each process takes every `size`-th; what they find is gathered
    and reduced in a fixed order, which gives the same bits for any number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of_world(cls) -> Team:
        """All processes that torchrun started; each must hold the same features and make the same calls."""
        return cls(world().rank, world().size)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process."""
        return items[self.rank :: self.size]

    def gather(self, part: Tensor) -> list[Tensor]:
        """The tensors of equal shape of all processes, by rank."""
        if self.size == 1:
            return [part]
        barrier()  # makes the process group at the first call
        parts = [torch.empty_like(part, device="cpu") for _ in range(self.size)]
        dist.all_gather(parts, part.cpu().contiguous())
        return [p.to(part.device) for p in parts]

    def total(self, part: Tensor) -> Tensor:
        """Sum over the processes."""
        return torch.stack(self.gather(part)).sum(0)


ALONE = Team()


def blocks(count: int, block: int) -> list[slice]:
    """Consecutive rows 0..count in blocks of `block`. Raises SkiptuneError for a block below 1."""
    if type(block) is not int or block < 1:
        raise SkiptuneError(f"block is {block!r}, it must be a whole number of rows from 1")
    return [slice(start, min(start + block, count)) for start in range(0, count, block)]


def upper_pairs(rows: Sequence[slice]) -> list[tuple[slice, slice]]:
    """All pairs of blocks (a, b) with a at or before b: what a symmetric matrix needs."""
    return [(a, b) for i, a in enumerate(rows) for b in rows[i:]]


def check_features(*sets: Tensor, least: int = 1) -> None:
    """Raises SkiptuneError unless all are finite matrices [N, d] of one d with at least `least` rows each."""
    for features in sets:
        if features.ndim != 2 or not features.is_floating_point():
            kind = str(features.dtype).removeprefix("torch.")
            raise SkiptuneError(f"features must be floats of shape [N, d], got {kind} {list(features.shape)}")
        if len(features) < least:
            raise SkiptuneError(f"the metric needs at least {least} images, got {len(features)}")
        if not all(is_finite(part) for part in features.split(BLOCK)):
            raise SkiptuneError("features contain NaN or infinity: check the generated images")
        if features.shape[1] == 0:
            raise SkiptuneError("features must be floats of shape [N, d], got d = 0")
    check_dimensions(*sets)


def check_dimensions(*sets: Tensor) -> None:
    """Raises SkiptuneError unless all have the same number of features."""
    if len({features.shape[1] for features in sets}) > 1:
        sizes = " and ".join(str(features.shape[1]) for features in sets)
        raise SkiptuneError(f"images have {sizes} features: use one extractor for both")


def is_finite(features: Tensor) -> bool:
    """Whether all values are; their sum, the cheaper look, keeps NaN and infinity but may overflow."""
    return bool(torch.isfinite(features.sum()) or torch.isfinite(features).all())


def mean(features: Tensor) -> Tensor:
    """Mean [d], float64, by blocks, because a sum in another precision copies all of its input."""
    return torch.stack([part.double().sum(0) for part in features.split(BLOCK)]).sum(0) / len(features)


def centred(features: Tensor, centre: Tensor, dtype: torch.dtype) -> Tensor:
    """features - centre in `dtype`, rounded after the subtraction: then a common offset costs no digits."""
    wide = torch.promote_types(features.dtype, dtype)
    return (features.to(wide) - centre.to(wide)).to(dtype)


class Pairs:
    """All pairs of the rows of x [n, d] and y [m, d]; every matrix is [n, m] in float64, made when asked for.

    `centre` [d] is subtracted before products are taken, so that |x|^2 + |y|^2 - 2 x y does not cancel more
    than it must. `same`: x and y are the same rows, so distances on the diagonal are exactly zero.
    """

    def __init__(self, x: Tensor, y: Tensor, centre: Tensor, same: bool = False) -> None:
        self.x, self.y, self.centre, self.same = x, y, centre.double(), same

    @property
    def dimension(self) -> int:
        """Number of features d."""
        return self.x.shape[1]

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        x = centred(self.x, self.centre, torch.float64)
        return x, x if self.same else centred(self.y, self.centre, torch.float64)

    @cached_property
    def _products(self) -> Tensor:
        x, y = self._rows
        return x @ y.T

    @cached_property
    def products(self) -> Tensor:
        """Inner products x_i y_j of the features as they are."""
        x, y = self._rows
        return self._products + (x @ self.centre)[:, None] + (y @ self.centre + self.centre.square().sum())

    @cached_property
    def squared(self) -> Tensor:
        """Squared Euclidean distances."""
        x, y = self._rows
        squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * self._products
        squared.clamp_(min=0)
        return squared.fill_diagonal_(0) if self.same else squared

    @cached_property
    def manhattan(self) -> Tensor:
        """Sums of absolute differences."""
        return torch.cdist(self.x.double(), self.y.double(), p=1)


def all_pairs(x: Tensor, y: Tensor | None, block: int, team: Team) -> Iterator[tuple[int, Pairs]]:
    """This process's blocks of x against y, numbered; of x against itself, upper blocks only, without y."""
    if y is None:
        plan = [(x[a], x[b], a == b) for a, b in upper_pairs(blocks(len(x), block))]
    else:
        plan = [(x[a], y[b], False) for a in blocks(len(x), block) for b in blocks(len(y), block)]
    centre = mean(x)
    for number, (rows, columns, same) in team.share(list(enumerate(plan))):
        yield number, Pairs(rows, columns, centre, same)
