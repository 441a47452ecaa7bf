"""FreeU against its formula, written with the official centred mask."""

import pytest
import torch
from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions import FreeU, SkipSite, find_skip_sites

U, D = 5, 3


def filtered(d, s):
    """The lowest frequencies, a square of half width 1 around the centre of the shifted spectrum, times s."""
    height, width = d.shape[-2:]
    mask = torch.ones(height, width)
    mask[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = s
    spectrum = torch.fft.fftshift(torch.fft.fftn(d, dim=(-2, -1)), dim=(-2, -1)) * mask
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real


def scaled(u, b, variant):
    factor = torch.tensor(b)
    if variant == "map":
        mean = u.mean(1)
        low, high = mean.flatten(1).min(1).values[:, None, None], mean.flatten(1).max(1).values[:, None, None]
        factor = ((b - 1) * (mean - low) / (high - low) + 1)[:, None]
    return torch.cat([u[:, : u.shape[1] // 2] * factor, u[:, u.shape[1] // 2 :]], dim=1)


@pytest.mark.parametrize(
    ("variant", "shape"),
    [("constant", (8, 8)), ("constant", (7, 5)), ("constant", (1, 1)), ("map", (8, 8)), ("map", (2, 3))],
)
def test_formula(shape, variant):
    torch.manual_seed(0)
    u, d = torch.randn(2, U, *shape), torch.randn(2, D, *shape)
    block = nn.Identity()
    both = torch.cat([u, d], dim=1)
    site = SkipSite(0, "block", block, U, D, exclusive=True)
    with FreeU(b1=1.4, s1=0.3, variant=variant).attached_to(block, [site]):
        output = block(both.clone().requires_grad_())
        with torch.no_grad():
            in_place = block(both)
    expected = torch.cat([scaled(u, 1.4, variant), filtered(d, 0.3)], dim=1)
    torch.testing.assert_close(output, expected)
    assert in_place is both and torch.equal(in_place, output)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_type_is_kept(dtype):
    block = nn.Identity()
    x = torch.ones(1, U + D, 6, 6, dtype=dtype)
    with FreeU(b1=1.5, s1=0.5).attached_to(block, [SkipSite(0, "block", block, U, D)]):
        y = block(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y[0, :, 0, 0].float(), torch.tensor([1.5, 1.5, 1, 1, 1, 0.5, 0.5, 0.5]))


def test_of_tokens_the_patches_are_the_image():
    torch.manual_seed(0)
    block = nn.Identity()
    site = SkipSite(0, "block", block, U, D, resolution=4, channel_dim=-1)
    tokens = torch.randn(2, 2 + 16, U + D)
    with FreeU(b1=1.4, s1=0.3).attached_to(block, [site]):
        output = block(tokens.clone())
    assert torch.equal(output[:, :2], tokens[:, :2])
    images = tokens[:, 2:].transpose(1, 2).unflatten(2, (4, 4))
    expected = torch.cat([scaled(images[:, :U], 1.4, "constant"), filtered(images[:, U:], 0.3)], dim=1)
    torch.testing.assert_close(output[:, 2:], expected.flatten(2).transpose(1, 2))
    oblong = SkipSite(0, "block", block, U, D, channel_dim=-1)
    with (
        pytest.raises(SkiptuneError, match="needs patches that form a square image"),
        FreeU(b1=1.4).attached_to(block, [oblong]),
    ):
        block(tokens)


def test_groups_are_resolutions_or_widths(golden):
    _, adm, _ = golden("edm_adm_straddle")
    sites = find_skip_sites(adm)
    assert [site.u_channels for site in sites] == [10, 10, 10, 10, 10, 6]
    assert list(FreeU().groups(sites).values()) == [site.stage for site in sites] == [0, 0, 1, 1, 2, 2]
    assert list(FreeU(by="width").groups(sites).values()) == [0, 0, 0, 0, 0, 1]


def test_only_the_groups_with_factors_are_touched(golden):
    _, adm, io = golden("edm_adm_straddle")
    seen = {}
    for site in find_skip_sites(adm):
        site.norm.register_forward_pre_hook(lambda _, args, i=site.index: seen.update({i: args[0].clone()}))

    def run(**settings):
        with FreeU(**settings).attached_to(adm):
            adm(io["x"][2], torch.tensor(2.5), io["class_labels"])
        return dict(seen)

    untouched, second = run(), run(b2=1.5)
    equal = [torch.equal(untouched[i], second[i]) for i in range(6)]
    assert equal == [True, True, False, False, False, False]  # the last two only through their input
    u = find_skip_sites(adm)[2].u_channels
    torch.testing.assert_close(second[2][:, : u // 2], 1.5 * untouched[2][:, : u // 2])
    assert torch.equal(second[2][:, u // 2 :], untouched[2][:, u // 2 :])


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"b1": -1.0}, "b1 of FreeU is -1.0, it must be a finite number from 0 up"),
        ({"s2": float("nan")}, "s2 of FreeU is nan"),
        ({"b2": "1"}, "b2 of FreeU is '1'"),
        ({"variant": "official"}, "unknown variant 'official' of FreeU; choose one of constant, map"),
        ({"by": "level"}, "unknown by 'level' of FreeU; choose one of stage, width"),
    ],
)
def test_mistakes_are_one_line(settings, line):
    with pytest.raises(SkiptuneError, match=line) as caught:
        FreeU(**settings)
    assert "\n" not in str(caught.value)


def test_factors_without_a_group_are_refused(golden):
    _, song, _ = golden("edm_song_straddle")
    with (
        pytest.raises(SkiptuneError, match="one group of sites, so b2 and s2 stay 1"),
        FreeU(b2=1.2, by="width").attached_to(song),
    ):
        pass
