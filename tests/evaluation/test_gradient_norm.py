"""Norms of a linear network's input gradient, written out, and of a real one by difference quotients."""

import math

import pytest
import torch
from torch import nn

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.errors import SkiptuneError
from skiptune.evaluation.gradient_norm import READINGS, gradient_norms
from skiptune.interventions import SkipTuning, TimeSchedule

SIZE = 2 * 3 * 3


class Linear(nn.Module):
    """x -> A x on flattened images."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def forward(self, x, sigma, condition=None):
        return (x.flatten(1).to(torch.float64) @ self.matrix.T).reshape(x.shape)


@pytest.fixture
def x():
    return torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_linear_network_has_the_norms_of_its_matrix(x):
    network = Linear()
    columns = network.matrix.sum(0)
    torch.testing.assert_close(gradient_norms(network, x, 1.0), columns.norm().expand(5))
    mean = gradient_norms(network, x, 1.0, reading="mean")
    torch.testing.assert_close(mean, (columns.norm() / SIZE).expand(5))
    squared = gradient_norms(network, x, 1.0, reading="squared_norm", micro_batch=2)
    gram = network.matrix.T @ network.matrix
    torch.testing.assert_close(squared, (2 * x.flatten(1) @ gram).norm(dim=1))


def test_jacobian_norm_converges_to_frobenius(x):
    """The variance of |J^T v|^2 over signs is 2 sum over i != j of (J J^T)_ij^2."""
    network, projections = Linear(), 400
    estimates = gradient_norms(network, x, 1.0, reading="jacobian", seeds=range(5), projections=projections)
    gram = network.matrix @ network.matrix.T
    variance = 2 * float((gram - gram.diag().diag()).square().sum())
    error = math.sqrt(variance / projections) / float(gram.trace())
    assert (estimates**2).tolist() == pytest.approx([float(gram.trace())] * 5, rel=4 * error)
    assert len(set(estimates.tolist())) == 5  # signs of their own
    again = gradient_norms(network, x[[3]], 1.0, reading="jacobian", seeds=[3], projections=projections)
    torch.testing.assert_close(again, estimates[[3]])


@pytest.fixture(scope="module")
def desk():
    return load_desk_denoiser("edm_glyphs").denoiser


@pytest.fixture
def inputs(desk):
    noise = torch.randn(2, *desk.image_shape, generator=torch.Generator().manual_seed(4))
    return 5.0 * noise, torch.eye(desk.num_classes)[:2]


def summed(desk, x, condition):
    """Sum of the output per image, in float64."""
    with torch.no_grad():
        return desk(x, torch.tensor(5.0), condition).to(torch.float64).flatten(1).sum(1)


@pytest.mark.parametrize("rho", [1.0, 0.6])
def test_desk_network_agrees_with_difference_quotients(rho, desk, inputs):
    """Along the gradient itself the directional derivative is its norm; interventions act in both."""
    x, condition = inputs
    with SkipTuning.interpolated(rho).attached_to(desk):
        norms = gradient_norms(desk, x, 5.0, condition)
        moved = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(desk(moved, torch.tensor(5.0), condition).sum(), moved)
        direction = gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        h = 0.05
        quotients = (
            summed(desk, x + h * direction, condition) - summed(desk, x - h * direction, condition)
        ) / (2 * h)
    torch.testing.assert_close(norms, quotients, rtol=2e-2, atol=0)


def test_skip_tuning_changes_the_norm_and_leaves_no_hook(desk, inputs):
    x, condition = inputs
    plain = {of: gradient_norms(desk, x, 5.0, condition, of=of) for of in ("denoiser", "network")}
    for of in plain:
        with SkipTuning.interpolated(0.6).attached_to(desk):
            tuned = gradient_norms(desk, x, 5.0, condition, of=of)
        assert ((tuned - plain[of]).abs() > 1e-3 * plain[of]).all()
        assert torch.equal(gradient_norms(desk, x, 5.0, condition, of=of), plain[of])
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in desk.modules()]
    assert not any(hooks)


def test_raw_network_is_differentiated_by_its_own_input(desk, inputs):
    x, condition = inputs
    _, _, c_in, c_noise = desk.coefficients(torch.full((1, 1, 1, 1), 5.0))
    z = (c_in * x).requires_grad_()
    (gradient,) = torch.autograd.grad(desk.model(z, c_noise.flatten(), condition).sum(), z)
    norms = gradient_norms(desk, x, 5.0, condition, of="network")
    torch.testing.assert_close(norms, gradient.double().flatten(1).norm(dim=1), rtol=1e-4, atol=0)


def test_schedules_over_time_are_followed_in_the_raw_network(desk, inputs):
    """A schedule reads the noise level from the denoiser's call, so the network is reached through it."""
    x, condition = inputs
    schedule = TimeSchedule("decreasing", (80.0, 5.0, 0.002), "log_sigma")
    with SkipTuning.interpolated(0.6, schedules=(schedule,)).attached_to(desk):
        scheduled = gradient_norms(desk, x, 5.0, condition, of="network")
    with SkipTuning.interpolated(0.6).attached_to(desk):
        full = gradient_norms(desk, x, 5.0, condition, of="network")
    assert not torch.allclose(scheduled, full, rtol=1e-3)


def test_mistakes_are_explained(desk, inputs, x):
    for settings, message in [
        ({"reading": "max"}, "sum, mean, squared_norm, jacobian"),
        ({"of": "encoder"}, "denoiser, network"),
        ({"reading": "jacobian"}, "seed per image"),
        ({"reading": "jacobian", "seeds": range(5), "projections": 0}, "projections"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"of": "network"}, "no U-Net"),
    ]:
        with pytest.raises(SkiptuneError, match=message):
            gradient_norms(Linear(), x, 1.0, **settings)
    assert "jacobian" in READINGS
    noisy, condition = inputs
    with pytest.raises(SkiptuneError, match="without guidance"):
        gradient_norms(ClassifierFreeGuidance(desk, 2.0), noisy, 5.0, condition, of="network")
