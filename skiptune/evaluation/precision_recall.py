"""Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991) by nearest-neighbour balls.

Every image carries the ball up to its k-th nearest neighbour in its own set. Precision: share of generated
images in a real image's ball; recall: share of real images in a generated image's ball. Balls are closed.

Exact at the speed of float32: matrix products in float32 decide all comparisons that lie outside a bound on
their rounding error; the few others are repeated in float64, and the last by the differences themselves. A
product form of the distance in float32 alone (as in the peers) decides about 1 of 10,000 images by rounding.
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
    centred,
    check_dimensions,
    check_features,
    mean,
)

NEIGHBOURS = 3
_SPARE = 3  # candidates kept beyond k, because float32 may change the order
_Rows = slice | Tensor
_GROUP = 16
_FEW = 4096  # pairs up to which their differences cost less than a product in float64
_AT_ONCE = 256  # pairs whose differences are taken together: in the cache at d = 2048


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
        return cls(features, _squared_radii(features, k, block, team))


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


def _centre(features: Tensor) -> Tensor:
    """A point [d], float64, near the features: distances do not depend on it, only their rounding."""
    return mean(features[:: max(1, len(features) // BLOCK)])


class _Set:
    """Features [N, d] about a centre, with their squared norms [N] as rounded to float32."""

    def __init__(self, features: Tensor, centre: Tensor) -> None:
        self.features, self.centre = features, centre
        parts = (centred(part, centre, torch.float32) for part in features.split(BLOCK))
        self.norms = torch.cat(
            [torch.linalg.vector_norm(p, dim=1, dtype=torch.float64) for p in parts]
        ).square_()
        self.largest = self.norms.max()

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, chosen: _Rows, dtype: torch.dtype) -> Tensor:
        """The chosen rows [n, d] about the centre, rounded to `dtype`."""
        return centred(self.features[chosen], self.centre, dtype)

    def error(self, chosen: _Rows, largest: Tensor, dtype: torch.dtype) -> Tensor:
        """Bound [n] on |computed - true| of squared distances to rows of norm^2 at most `largest`.

        A product of length d is within d u |x| |y| (u = eps / 2, any order of summation), doubled, with
        |x| |y| <= (|x| + |y|)^2 / 4; the 8 u stand for centring and the sums; tiny for underflow.
        """
        limits, d = torch.finfo(dtype), self.features.shape[1]
        reach = (self.norms[chosen].sqrt() + largest.sqrt()).square()
        return (d / 2 + 8) * limits.eps / 2 * reach + 4 * d * limits.tiny


def _distances(x: Tensor, x_norms: Tensor, y: Tensor, y_norms: Tensor) -> Tensor:
    """Squared distances [n, m] of rows about one centre, rounded: within `_Set.error` of the true ones."""
    return (x @ y.T).mul_(-2).add_(x_norms.to(x.dtype)[:, None]).add_(y_norms.to(x.dtype))


def _distances64(x: Tensor, y: Tensor) -> Tensor:
    """The same for rows in float64, with norms as precise."""
    return _distances(x, x.square().sum(1), y, y.square().sum(1))


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [n] between rows of x and y [n, d], from the differences in float64."""
    return (x.double() - y.double()).square_().sum(1)


class _Nearest:
    """The smallest distances [N, m] of every row so far, and which row they lead to."""

    def __init__(self, rows: int, kept: int, dtype: torch.dtype, device: torch.device) -> None:
        self.values = torch.full((rows, kept), torch.inf, dtype=dtype, device=device)
        self.indices = torch.zeros(rows, kept, dtype=torch.long, device=device)

    def add(self, rows: slice, distances: Tensor, first: int) -> None:
        """Distances [n, w] of these rows to the rows `first`, `first` + 1, ..."""
        kept = self.values.shape[1]
        values, indices = _smallest(distances, min(kept, distances.shape[1]))
        values = torch.cat([self.values[rows], values], 1)
        indices = torch.cat([self.indices[rows], indices + first], 1)
        self.values[rows], order = values.topk(kept, largest=False)
        self.indices[rows] = indices.gather(1, order)


def _smallest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest values [n, count] of every row of [n, m], unordered, and where they are.

    They lie in the groups of columns with the smallest minima: several times as fast as `topk` of all.
    """
    width = distances.shape[1]
    if width % _GROUP or width <= _GROUP * count:
        return distances.topk(count, largest=False, sorted=False)
    stride = width // _GROUP  # a group is every `stride`-th column, which suits vector instructions
    if distances.stride(0) == 1:  # a transposed matrix is reduced along its own rows
        minima = distances.T.unflatten(0, (_GROUP, stride)).amin(0).T.contiguous()
    else:
        minima = distances.unflatten(1, (_GROUP, stride)).amin(1)
    groups = minima.topk(count, largest=False, sorted=False).indices
    columns = (groups[:, None] + stride * torch.arange(_GROUP, device=groups.device)[:, None]).flatten(1)
    values, order = distances.gather(1, columns).topk(count, largest=False, sorted=False)
    return values, columns.gather(1, order)


def _squared_radii(features: Tensor, k: int, block: int, team: Team) -> Tensor:
    """Squared distance [N], float64, to the k-th nearest other row."""
    images, kept = _Set(features, _centre(features)), min(k + _SPARE, len(features) - 1)
    nearest = _Nearest(len(images), kept, torch.float32, features.device)
    strips = list(enumerate(whole := blocks(len(images), block)))
    for number, a in team.share(strips):  # a symmetric matrix: its upper blocks serve rows and columns
        rows = images.rows(a, torch.float32)
        for b in whole[number:]:
            columns = rows if b is a else images.rows(b, torch.float32)
            distances = _distances(rows, images.norms[a], columns, images.norms[b])
            if b is a:
                distances.fill_diagonal_(torch.inf)
            else:
                nearest.add(b, distances.T, a.start)
            nearest.add(a, distances, b.start)
    values, order = torch.cat(team.gather(nearest.values), 1).topk(kept, largest=False)
    indices = torch.cat(team.gather(nearest.indices), 1).gather(1, order)

    everyone = torch.arange(len(images), device=features.device)
    radii, certain = _radii_from(images, everyone, values, indices, k)
    if kept < len(images) - 1:
        doubtful = everyone[~certain]
        for part in doubtful.split(block) if len(doubtful) else ():
            radii[part] = _precise_radii(images, part, k, block)
    return radii


def _precise_radii(images: _Set, chosen: Tensor, k: int, block: int) -> Tensor:
    """The same for few rows, with candidates from float64: right to 1e-13 of the features' spread."""
    kept = min(k + _SPARE, len(images) - 1)
    nearest = _Nearest(len(chosen), kept, torch.float64, chosen.device)
    wanted = images.rows(chosen, torch.float64)
    for b in blocks(len(images), block):
        distances = _distances64(wanted, images.rows(b, torch.float64))
        own = (chosen >= b.start) & (chosen < b.stop)
        distances[own, chosen[own] - b.start] = torch.inf
        nearest.add(slice(0, len(chosen)), distances, b.start)
    return _radii_from(images, chosen, nearest.values, nearest.indices, k)[0]


def _radii_from(
    images: _Set, chosen: Tensor, values: Tensor, indices: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Squared radii [n] of the chosen rows from their nearest ones by rounded distances [n, m], ascending.

    With the error e, the k-th true distance is within e of the k-th rounded one, V. So a row below V - 2 e
    is nearer, one above V + 2 e is farther, and only those between need their differences taken. Second: for
    which rows that is certain, i.e. no row that was not kept can be among these.
    """
    error = 2 * images.error(chosen, images.largest, values.dtype)[:, None]
    distances, middle = values.double(), values[:, k - 1 : k].double()
    nearer, farther = distances < middle - error, distances > middle + error
    exact = torch.full_like(distances, torch.inf).masked_fill_(nearer, -torch.inf)
    rows, columns = torch.nonzero(~(nearer | farther), as_tuple=True)
    lefts, rights = chosen[rows].split(_AT_ONCE), indices[rows, columns].split(_AT_ONCE)
    features = images.features
    squared = [_squared(features[i], features[j]) for i, j in zip(lefts, rights, strict=True)]
    exact[rows, columns] = torch.cat(squared)
    radii = exact.kthvalue(k, 1).values
    return radii, farther[:, -1] | (radii == 0)


class _Side:
    """The images of one set, their squared radii, and which are known to lie in a ball of the other set."""

    def __init__(self, manifold: Manifold, centre: Tensor) -> None:
        self.images, self.radii = _Set(manifold.features, centre), manifold.squared_radii
        self.inside = torch.zeros(len(self.images), dtype=torch.bool, device=self.radii.device)
        self.numbers = torch.arange(len(self.images), device=self.radii.device)

    def parted(self, rows: slice) -> tuple[_Rows, Tensor]:
        """These rows: the ones not known to be inside, and the others."""
        known = self.inside[rows]
        numbers = self.numbers[rows]
        return numbers[~known] if known.any() else rows, numbers[known]

    def mark(self, chosen: _Rows, other: _Side, balls: _Rows, products: Tensor) -> None:
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

    def decide(self, chosen: Tensor, other: _Side, balls: _Rows) -> None:
        """The same in float64."""
        squared = other.radii[balls]
        margin = _distances64(
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
        for i, j in zip(chosen.split(_AT_ONCE), balls.split(_AT_ONCE), strict=True):
            squared = _squared(self.images.features[i], other.images.features[j])
            self.inside[i[squared <= other.radii[j]]] = True


def _covered(a: Manifold, b: Manifold, block: int, team: Team) -> tuple[Tensor, Tensor]:
    """Which rows of a [N] lie in a ball of b, and which of b [M] in a ball of a; one product serves both."""
    centre = _centre(b.features)
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


def _products(left: _Side, i: _Rows, right: _Side, j: _Rows) -> Tensor:
    """-2 x_i y_j [n, m] in float32."""
    return left.images.rows(i, torch.float32).mul_(-2) @ right.images.rows(j, torch.float32).T
