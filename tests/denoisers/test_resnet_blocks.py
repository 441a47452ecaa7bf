import pytest
import torch
import torch.nn.functional as F

from skiptune.denoisers.resnet_blocks import AttnBlock, Downsample, ResnetBlock, Upsample


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_attention_is_the_published_formula():
    torch.manual_seed(0)
    block, x = AttnBlock(32).double(), draw(2, 32, 3, 5)
    q, k, v = (conv(block.norm(x)).flatten(2) for conv in (block.q, block.k, block.v))
    weight = torch.einsum("ncq,nck->nqk", q, k / 32**0.5).softmax(dim=2)
    out = torch.einsum("nqk,nck->ncq", weight, v).reshape(x.shape)
    torch.testing.assert_close(block(x), x + block.proj_out(out))
    assert (out - out.mean()).abs().max() > 0.1


@torch.no_grad()
def test_halving_pads_at_the_bottom_and_right_only():
    layer, x = Downsample(2, with_conv=True).double(), draw(1, 2, 4, 6)
    whole = F.conv2d(F.pad(x, (1, 1, 1, 1)), layer.conv.weight, layer.conv.bias)
    torch.testing.assert_close(layer(x), whole[..., 1::2, 1::2])


@torch.no_grad()
def test_resampling_without_convolution():
    x = draw(1, 2, 4, 6)
    torch.testing.assert_close(Downsample(2, with_conv=False)(Upsample(2, with_conv=False)(x)), x)


@pytest.mark.parametrize(
    ("out", "conv_shortcut", "name", "kernel"),
    [(64, False, "nin_shortcut", 1), (64, True, "conv_shortcut", 3), (32, True, None, None)],
)
def test_shortcut_only_where_the_width_changes(out, conv_shortcut, name, kernel):
    block = ResnetBlock(32, out, conv_shortcut=conv_shortcut).double()
    names = {key.split(".")[0] for key in block.state_dict() if "shortcut" in key}
    assert names == ({name} if name else set())
    assert kernel is None or block.shortcut.weight.shape[2:] == (kernel, kernel)
    x = draw(1, 32, 4, 4)
    for parameter in block.conv2.parameters():
        torch.nn.init.zeros_(parameter)
    expected = x if block.shortcut is None else block.shortcut(x)
    torch.testing.assert_close(block(x), expected)


def test_time_is_added_per_channel_before_the_second_norm():
    torch.manual_seed(0)
    block, x, temb = ResnetBlock(32, 64, temb_channels=16).double(), draw(2, 32, 4, 4), draw(1, 16)
    seen = []
    block.norm2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block(x, temb), block(x, None)
    added = block.temb_proj(temb * temb.sigmoid())[:, :, None, None]
    torch.testing.assert_close(seen[0], seen[1] + added)
