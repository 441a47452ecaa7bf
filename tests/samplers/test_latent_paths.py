"""Paths between latents: known points, exact ends, the variance of unit noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers import initial_noise
from skiptune.samplers.interpolation import PATHS, linear, spherical


def image(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def weight(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_arc_between_orthogonal_vectors() -> None:
    a, b = image(2, 0, 0), image(0, 2, 0)
    middle = spherical(a, b, weight(0.5))
    torch.testing.assert_close(middle, image(math.sqrt(2), math.sqrt(2), 0))
    third = spherical(a, b, weight(1 / 3))
    torch.testing.assert_close(third, image(math.sqrt(3), 1, 0))  # 30 degrees of 90
    torch.testing.assert_close(linear(a, b, weight(1 / 4)), image(1.5, 0.5, 0))


@pytest.mark.parametrize("name", PATHS)
def test_ends_are_exact_and_every_image_has_its_own_path(name: str) -> None:
    a, _ = initial_noise(range(4), (3, 8, 8))
    b, _ = initial_noise(range(10, 14), (3, 8, 8))
    path = PATHS[name]
    assert torch.equal(path(a, b, torch.zeros(4)), a.double())
    assert torch.equal(path(a, b, torch.ones(4)), b.double())
    weights = weight(0.1, 0.4, 0.5, 0.9)
    together = path(a, b, weights)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], path(a[i : i + 1], b[i : i + 1], weights[i : i + 1]))
    # Backwards it is the same path.
    torch.testing.assert_close(path(b, a, 1 - weights), together)


def test_only_the_arc_keeps_the_variance_of_noise() -> None:
    a, _ = initial_noise(range(50), (3, 16, 16))
    b, _ = initial_noise(range(50, 100), (3, 16, 16))
    half = torch.full((50,), 0.5)
    assert float(spherical(a, b, half).var()) == pytest.approx(1, abs=0.03)
    assert float(linear(a, b, half).var()) == pytest.approx(0.5, abs=0.03)


def test_ends_in_one_direction_have_a_line_between_them_and_opposite_ones_nothing() -> None:
    a = image(1, 2, 2)
    torch.testing.assert_close(spherical(a, 3 * a, weight(0.25)), 1.5 * a)
    torch.testing.assert_close(spherical(a, a, weight(0.3)), a)
    with pytest.raises(SkiptuneError, match="opposite directions have no single arc"):
        spherical(a, -a, weight(0.5))
