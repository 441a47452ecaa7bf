from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_arrays import activations
from prdc import compute_prdc
from sklearn.metrics import pairwise_distances
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_part

from skiptune.errors import SkiptuneError
from skiptune.evaluation.precision_recall import Manifold, PrecisionRecall, precision_recall


def independent(generated: Tensor, real: Tensor, k: int) -> PrecisionRecall:
    """In the style of the package prdc: sorted distance matrices of NumPy, from scikit-learn."""
    g, r = generated.double().numpy(), real.double().numpy()
    radius_g = np.sort(pairwise_distances(g), axis=1)[:, k]
    radius_r = np.sort(pairwise_distances(r), axis=1)[:, k]
    between = pairwise_distances(r, g)
    precision = (between <= radius_r[:, None]).any(axis=0).mean()
    recall = (between <= radius_g[None, :]).any(axis=1).mean()
    return PrecisionRecall(float(precision), float(recall))


def test_parity_with_prdc() -> None:
    """Its balls are open, ours closed: the same without ties."""
    g, r = activations(300, 32, 1), activations(350, 32, 2, 0.02)
    theirs = compute_prdc(r.numpy(), g.numpy(), 5)
    assert precision_recall(g, r, 5) == PrecisionRecall(theirs["precision"], theirs["recall"])


def by_differences(generated: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """The definition without products, so exact where images are equal or nearly so."""

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([(row - b.double()).square().sum(1) for row in a.double()])

    radii = [squared(x, x).fill_diagonal_(torch.inf).kthvalue(k).values for x in (generated, real)]
    between = squared(generated, real)
    precision = (between <= radii[1]).any(1).double().mean()
    return PrecisionRecall(float(precision), float((between <= radii[0][:, None]).any(0).double().mean()))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "d"), [(300, 400, 32), (130, 64, 200)])
def test_parity_in_float64(n: int, m: int, d: int, k: int) -> None:
    g, r = activations(n, d, 1), activations(m, d, 2, 0.02)
    ours = precision_recall(g, r, k, block=100)
    assert 0.05 < ours.precision < 0.99 and 0.05 < ours.recall < 0.99
    assert ours == independent(g, r, k)
    precision, recall = calculate_precision_recall_part(g, r, k)
    assert (ours.precision, ours.recall) == pytest.approx((precision, recall), rel=1e-6)  # means in float32


def test_float32_features_are_decided_exactly() -> None:
    """Where torch-fidelity's float32 products lose the distances under an offset, these do not."""
    g, r = activations(300, 32, 1, 1000.0).float(), activations(400, 32, 2, 1000.02).float()
    ours, theirs = precision_recall(g, r, block=128), calculate_precision_recall_part(g, r)
    assert ours == by_differences(g, r)
    assert abs(ours.precision - theirs[0]) > 0.01


def clusters(seed: int) -> Tensor:
    """Tight clusters far apart: all distances within one are below what float32 products resolve."""
    centres = 100 * activations(10, 16, 5).repeat(15, 1)
    return (centres + 1e-4 * activations(150, 16, seed)).float()


@pytest.mark.parametrize(
    ("generated", "real"),
    [
        (activations(150, 16, 1).round(), activations(170, 16, 2).round()),  # ties
        (activations(1, 16, 1).repeat(150, 1), activations(170, 16, 2)),  # one image again and again
        (activations(170, 16, 2)[:2].repeat(80, 1), activations(170, 16, 2)),
        (clusters(1), clusters(2)),
        (1e-22 * activations(150, 16, 1), 1e-22 * activations(170, 16, 2)),  # squares below float32
        (activations(150, 16, 1).half(), activations(170, 16, 2).half()),
    ],
    ids=["ties", "one image", "two real images", "clusters", "tiny", "float16"],
)
def test_hard_cases_are_decided_exactly(generated: Tensor, real: Tensor) -> None:
    for block in (64, 1000):
        assert precision_recall(generated, real, block=block) == by_differences(generated, real)
        assert precision_recall(real, generated, block=block) == by_differences(real, generated)


def test_equal_and_disjoint_sets() -> None:
    x = activations(200, 16, 1)
    assert precision_recall(x, x.flip(0), block=64) == PrecisionRecall(1.0, 1.0)
    assert precision_recall(x, x + 1e3, block=64) == PrecisionRecall(0.0, 0.0)


def test_a_collapsed_generator_is_precise_and_forgets() -> None:
    real = activations(400, 16, 1)
    collapsed = real[:1] + 1e-3 * activations(400, 16, 2)
    value = precision_recall(collapsed, real)
    assert value.precision == 1 and value.recall < 0.02
    assert precision_recall(real, collapsed) == PrecisionRecall(value.recall, value.precision)


def test_invariances_and_kept_radii() -> None:
    g, r = activations(200, 16, 1), activations(250, 16, 2, 0.05)
    value = precision_recall(g, r)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).double())[0]
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert precision_recall(g[order], r.flip(0), block=37) == value
    assert precision_recall(3 * g @ rotation + 5, 3 * r @ rotation + 5) == value
    assert precision_recall(Manifold.of(g), Manifold.of(r, block=50)) == value


def test_bad_input() -> None:
    x = activations(20, 4, 1)
    with pytest.raises(SkiptuneError, match="at least 4 images, got 3"):
        precision_recall(x[:3], x)
    with pytest.raises(SkiptuneError, match="4 and 3 features"):
        precision_recall(x, x[:, :3])
    with pytest.raises(SkiptuneError, match="NaN"):
        precision_recall(x, torch.where(x == x[3, 3], torch.nan, x))
    with pytest.raises(SkiptuneError, match="k is 0"):
        precision_recall(x, x, 0)
