import math

import pytest
import torch
import torch.nn.functional as F

from skiptune.denoisers.layers import (
    Conv2d,
    PositionalEmbedding,
    Resample,
    UNetBlock,
    filter_kernel,
    self_attention,
)


def test_attention_is_the_published_formula():
    heads, width, size = 2, 8, 3
    qkv = torch.randn(
        2, 3 * heads * width, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    q, k, v = qkv.reshape(2, heads, width, 3, size * size).unbind(3)  # q, k, v innermost
    weight = torch.einsum("nhcq,nhck->nhqk", q, k / math.sqrt(width)).softmax(dim=3)
    expected = torch.einsum("nhqk,nhck->nhcq", weight, v).reshape(2, heads * width, size, size)
    torch.testing.assert_close(self_attention(qkv, heads), expected, rtol=1e-5, atol=1e-6)
    assert (self_attention(qkv, 1) - expected).abs().max() > 0.01


@pytest.mark.parametrize("up", [True, False])
def test_box_filter_is_the_general_filter(up):
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    fast, general = Resample([1, 1], up), Resample([2, 2], up)  # the same filter after normalisation
    assert fast.is_box and not general.is_box
    torch.testing.assert_close(fast(x, filter_kernel([1, 1])), general(x, filter_kernel([2, 2])))


def test_filters_keep_a_constant_and_the_published_size():
    kernel = filter_kernel([1, 3, 3, 1])
    assert kernel.shape == (1, 1, 4, 4) and kernel.sum() == 1
    down = Conv2d(2, 2, 0, down=True, taps=[1, 3, 3, 1])(torch.ones(1, 2, 8, 8))
    assert down.shape == (1, 2, 4, 4)
    torch.testing.assert_close(down[..., 1:-1, 1:-1], torch.ones(1, 2, 2, 2))
    assert Conv2d(2, 2, 0, up=True, taps=[1, 3, 3, 1])(torch.ones(1, 2, 8, 8)).shape == (1, 2, 16, 16)


def test_fused_convolution_precedes_the_filter():
    conv = Conv2d(2, 3, 3, down=True, taps=[1, 3, 3, 1], fused_resample=True)
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    y = F.conv2d(x, conv.weight, padding=2)
    expected = F.conv2d(y, filter_kernel([1, 3, 3, 1]).expand(3, 1, 4, 4), stride=2, groups=3)
    torch.testing.assert_close(conv(x), expected)


def test_positional_embedding_frequencies():
    label = torch.tensor([2.0])
    open_end, with_end = PositionalEmbedding(6)(label)[0], PositionalEmbedding(6, endpoint=True)(label)[0]
    assert open_end.tolist() == pytest.approx(
        [f(2 * 10000 ** (-i / 3)) for f in (math.cos, math.sin) for i in range(3)], abs=1e-6
    )
    assert with_end.tolist() == pytest.approx(
        [f(2 * 10000 ** (-i / 2)) for f in (math.cos, math.sin) for i in range(3)], abs=1e-6
    )


def test_shortcut_only_where_shapes_differ():
    assert UNetBlock(8, 8, 4).skip is None
    assert UNetBlock(8, 12, 4).skip.weight.shape == (12, 8, 1, 1)
    assert UNetBlock(8, 8, 4, up=True).skip.weight is None
    assert UNetBlock(8, 8, 4, up=True, resample_proj=True).skip.weight.shape == (8, 8, 1, 1)
