"""Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991) by nearest-neighbour balls.

Every image carries the ball up to its k-th nearest neighbour in its own set. Precision: share of generated
images in a real image's ball; recall: share of real images in a generated image's ball. Balls are closed.

Exact at the speed of float32: matrix products in float32 decide all comparisons that lie outside a bound on
their rounding error; the few others are repeated in float64, and the last by the differences themselves. A
product form of the distance in float32 alone, as in torch-fidelity, may decide by its rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import (
    ALONE,
    BLOCK,
    Team,
    blocks,
    check_dimensions,
    check_features,
)
from skiptune.evaluation.neighbours import (
    AT_ONCE,
    CentredSet,
    Rows,
    centre_of,
    product_distances64,
    squared_differences,
    squared_radii,
)

NEIGHBOURS = 3
_FEW = 4096  # pairs up to which their differences cost less than a product in float64


@dataclass(frozen=True, eq=False)
class Manifold:
    """Features [N, d] and the squared radius [N], float64, of every image's ball."""

    features: Tensor
    squared_radii: Tensor

    @classmethod
    def of(cls, features: Tensor, k: int = NEIGHBOURS, block: int = BLOCK, team: Team = ALONE) -> Manifold:
        """Balls up to the k-th nearest other image, in memory bounded by `block` rows.

        Raises SkiptuneError for k < 1, k or fewer images, or features that are no finite matrix.
        """
        if k < 1:
            raise SkiptuneError(f"k is {k}, precision and recall need 1 neighbour or more")
        check_features(features, least=k + 1)
        return cls(features, squared_radii(features, k, block, team))


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1] of generated images among the real ones, and of real among the generated ones."""

    precision: float
    recall: float


def precision_recall(
    generated: Tensor | Manifold,
    real: Tensor | Manifold,
    k: int = NEIGHBOURS,
    block: int = BLOCK,
    team: Team = ALONE,
) -> PrecisionRecall:
    """Precision and recall of features [N, d] against [M, d]; a `Manifold` brings its radii with it.

    Raises SkiptuneError for k or fewer images, or features that are no finite matrices of one dimension.
    """
    ours, theirs = (
        side if isinstance(side, Manifold) else Manifold.of(side, k, block, team)
        for side in (generated, real)
    )
    check_dimensions(ours.features, theirs.features)
    inside, found = _covered(ours, theirs, block, team)
    return PrecisionRecall(float(inside.double().mean()), float(found.double().mean()))


class _Side:
    """The images of one set, their squared radii, and which are known to lie in a ball of the other set."""

    def __init__(self, manifold: Manifold, centre: Tensor) -> None:
        self.images, self.radii = CentredSet(manifold.features, centre), manifold.squared_radii
        self.inside = torch.zeros(len(self.images), dtype=torch.bool, device=self.radii.device)
        self.numbers = torch.arange(len(self.images), device=self.radii.device)

    def parted(self, rows: slice) -> tuple[Rows, Tensor]:
        """These rows: the ones not known to be inside, and the others."""
        known = self.inside[rows]
        numbers = self.numbers[rows]
        return numbers[~known] if known.any() else rows, numbers[known]

    def mark(self, chosen: Rows, other: _Side, balls: Rows, products: Tensor) -> None:
        """Mark which of the chosen images lie in these balls of the other set; `products`: -2 x y [n, m]."""
        # |x|^2 + min over balls of (|y|^2 - radius^2 - 2 x y): below 0 inside, above 0 outside
        squared = other.radii[balls]
        level = (other.images.norms[balls] - squared).to(products.dtype)
        margin = self.images.norms[chosen] + (products + level).amin(1).double()
        largest = torch.maximum(other.images.largest, squared.max())
        error = self.images.error(chosen, largest, products.dtype)
        self.inside[chosen] |= margin < -error
        open = torch.nonzero((margin <= error) & ~self.inside[chosen]).flatten()
        if len(open) == 0:
            return
        doubtful, margins = self.numbers[chosen][open], products[open] + level
        pairs = torch.nonzero(self.images.norms[doubtful, None] + margins <= error[open, None])
        if len(pairs) <= _FEW:
            self.settle(doubtful[pairs[:, 0]], other, other.numbers[balls][pairs[:, 1]])
        else:
            self.decide(doubtful, other, balls)

    def decide(self, chosen: Tensor, other: _Side, balls: Rows) -> None:
        """The same in float64."""
        squared = other.radii[balls]
        margin = product_distances64(
            self.images.rows(chosen, torch.float64), other.images.rows(balls, torch.float64)
        ).sub_(squared)
        error = self.images.error(chosen, torch.maximum(other.images.largest, squared.max()), margin.dtype)
        self.inside[chosen] |= margin.amin(1) < -error
        numbers = other.numbers[balls]
        self.settle(chosen, other, numbers[margin.argmin(1)])  # finds equal images, of which may be many
        pairs = torch.nonzero((margin <= error[:, None]) & ~self.inside[chosen][:, None])
        self.settle(chosen[pairs[:, 0]], other, numbers[pairs[:, 1]])

    def settle(self, chosen: Tensor, other: _Side, balls: Tensor) -> None:
        """Mark each chosen image that lies in the one ball beside it, by the differences."""
        for i, j in zip(chosen.split(AT_ONCE), balls.split(AT_ONCE), strict=True):
            squared = squared_differences(self.images.features[i], other.images.features[j])
            self.inside[i[squared <= other.radii[j]]] = True


def _covered(a: Manifold, b: Manifold, block: int, team: Team) -> tuple[Tensor, Tensor]:
    """Which rows of a [N] lie in a ball of b, and which of b [M] in a ball of a; one product serves both."""
    centre = centre_of(b.features)
    left, right = _Side(a, centre), _Side(b, centre)
    pairs = [(i, j) for i in blocks(len(left.images), block) for j in blocks(len(right.images), block)]
    for i, j in team.share(pairs):
        (undecided, decided), columns = left.parted(i), right.parted(j)[0]
        if len(left.numbers[undecided]):
            products = _products(left, undecided, right, j)
            left.mark(undecided, right, j, products)
            right.mark(j, left, undecided, products.T)
        # Rows known to be inside are only needed as balls, for the columns not known to be.
        if len(decided) and len(right.numbers[columns]):
            right.mark(columns, left, decided, _products(left, decided, right, columns).T)
    both = [torch.stack(team.gather(side.inside.byte())).amax(0).bool() for side in (left, right)]
    return both[0], both[1]


def _products(left: _Side, i: Rows, right: _Side, j: Rows) -> Tensor:
    """-2 x_i y_j [n, m] in float32."""
    return left.images.rows(i, torch.float32).mul_(-2) @ right.images.rows(j, torch.float32).T
