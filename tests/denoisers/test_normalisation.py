"""Group normalisation: that of PyTorch, in any layout, with the scale and shift of ADM."""

import pytest
import torch
import torch.nn.functional as F

from skiptune.denoisers.normalisation import GroupNorm, group_norm


@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (10, 2), (64, 16), (128, 32), (256, 32)])
def test_group_counts(channels, groups):
    assert group_norm(channels, eps=1e-5).num_groups == groups


@pytest.fixture
def norm():
    torch.manual_seed(0)
    norm = GroupNorm(4, 12, eps=1e-5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def exact(norm, x):
    """In float64, by PyTorch."""
    return F.group_norm(x.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(3, 12, 8, 8), (1, 12, 5, 7), (2, 12, 1, 1)])
@pytest.mark.parametrize("offset", [0.0, 10.0])
@pytest.mark.parametrize("gradient", [False, True])
def test_any_layout_with_and_without_gradient(norm, layout, size, offset, gradient):
    x = (torch.randn(size) + offset).contiguous(memory_format=layout)
    with torch.set_grad_enabled(gradient):
        y = norm(x)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y.double(), exact(norm, x), rtol=1e-4, atol=1e-4 if offset else 1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch", [1, 3])
def test_scale_and_shift(norm, layout, batch):
    x = torch.randn(3, 12, 8, 8).contiguous(memory_format=layout)
    scale, shift = torch.randn(2, batch, 12, 1, 1)
    with torch.no_grad():
        y = norm(x, (scale, shift))
    torch.testing.assert_close(y.double(), exact(norm, x) * scale + shift, rtol=1e-4, atol=1e-5)


def test_a_group_of_equal_values_is_its_bias(norm):
    with torch.no_grad():
        y = norm(torch.full((2, 12, 4, 4), 3.0).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, norm.bias[None, :, None, None].expand_as(y), rtol=0, atol=0.01)


def test_an_image_does_not_depend_on_the_others_of_its_batch(norm):
    x = torch.randn(64, 12, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        whole, alone = norm(x), norm(x[:3])
    assert torch.equal(whole[:3], alone)
