"""Distance to the k-th nearest neighbour, exact, at the speed of float32 products.

Products in float32 decide all that lies outside a bound on their rounding error; where they cannot decide,
float64 does, and for the last pairs the differences of the features themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.evaluation.blocks import BLOCK, Team, blocks, centred, mean

Rows = slice | Tensor
AT_ONCE = 256  # pairs whose differences are taken together: in the cache at d = 2048
_SPARE = 3  # candidates kept beyond k, because float32 may change the order
_GROUP = 16


def centre_of(features: Tensor) -> Tensor:
    """A point [d], float64, near the features: distances do not depend on it, only their rounding."""
    return mean(features[:: max(1, len(features) // BLOCK)])


class CentredSet:
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

    def rows(self, chosen: Rows, dtype: torch.dtype) -> Tensor:
        """The chosen rows [n, d] about the centre, rounded to `dtype`."""
        return centred(self.features[chosen], self.centre, dtype)

    def error(self, chosen: Rows, largest: Tensor, dtype: torch.dtype) -> Tensor:
        """Bound [n] on |computed - true| of squared distances to rows of norm^2 at most `largest`.

        A product of length d is within d u |x| |y| (u = eps / 2, any order of summation), doubled, with
        |x| |y| <= (|x| + |y|)^2 / 4; the 8 u stand for centring and the sums; tiny for underflow.
        """
        limits, d = torch.finfo(dtype), self.features.shape[1]
        reach = (self.norms[chosen].sqrt() + largest.sqrt()).square()
        return (d / 2 + 8) * limits.eps / 2 * reach + 4 * d * limits.tiny


def product_distances(x: Tensor, x_norms: Tensor, y: Tensor, y_norms: Tensor) -> Tensor:
    """Squared distances [n, m] of rows about one centre, within `CentredSet.error` of the true ones."""
    return (x @ y.T).mul_(-2).add_(x_norms.to(x.dtype)[:, None]).add_(y_norms.to(x.dtype))


def product_distances64(x: Tensor, y: Tensor) -> Tensor:
    """Such distances of rows in float64, with norms as precise."""
    return product_distances(x, x.square().sum(1), y, y.square().sum(1))


def squared_differences(x: Tensor, y: Tensor) -> Tensor:
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


def squared_radii(features: Tensor, k: int, block: int, team: Team) -> Tensor:
    """Squared distance [N], float64, to the k-th nearest other row."""
    images, kept = CentredSet(features, centre_of(features)), min(k + _SPARE, len(features) - 1)
    nearest = _Nearest(len(images), kept, torch.float32, features.device)
    strips = list(enumerate(whole := blocks(len(images), block)))
    for number, a in team.share(strips):  # a symmetric matrix: its upper blocks serve rows and columns
        rows = images.rows(a, torch.float32)
        for b in whole[number:]:
            columns = rows if b is a else images.rows(b, torch.float32)
            distances = product_distances(rows, images.norms[a], columns, images.norms[b])
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


def _precise_radii(images: CentredSet, chosen: Tensor, k: int, block: int) -> Tensor:
    """The same for few rows, with candidates from float64: right to 1e-13 of the features' spread."""
    kept = min(k + _SPARE, len(images) - 1)
    nearest = _Nearest(len(chosen), kept, torch.float64, chosen.device)
    wanted = images.rows(chosen, torch.float64)
    for b in blocks(len(images), block):
        distances = product_distances64(wanted, images.rows(b, torch.float64))
        own = (chosen >= b.start) & (chosen < b.stop)
        distances[own, chosen[own] - b.start] = torch.inf
        nearest.add(slice(0, len(chosen)), distances, b.start)
    return _radii_from(images, chosen, nearest.values, nearest.indices, k)[0]


def _radii_from(
    images: CentredSet, chosen: Tensor, values: Tensor, indices: Tensor, k: int
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
    lefts, rights = chosen[rows].split(AT_ONCE), indices[rows, columns].split(AT_ONCE)
    features = images.features
    squared = [squared_differences(features[i], features[j]) for i, j in zip(lefts, rights, strict=True)]
    exact[rows, columns] = torch.cat(squared)
    radii = exact.kthvalue(k, 1).values
    return radii, farther[:, -1] | (radii == 0)
