"""The places of Skip-Tuning on a single block, against the block's formula written out."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from skiptune.denoisers.layers import UNetBlock
from skiptune.interventions import SkipSite, SkipTuning

U, D = 7, 5


SHORTCUTS = {"identity": U + D, "projected": 16}


def make_block(width):
    """Block, site and inputs; ``U + D`` channels in, one group that contains channels of both."""
    torch.manual_seed(1)
    block = UNetBlock(U + D, width, 4).eval().requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_(std=0.3)
    assert (block.skip is None) == (width == U + D)
    site = SkipSite(0, "block", block, U, D, block.norm0, block.skip)
    return block, site, torch.randn(2, U + D, 4, 4), torch.randn(2, 4)


def formula(block, x, emb, factors):
    """``factors``: of d at the shortcut, before and after norm0."""

    def scaled(y, factor):
        return torch.cat([y[:, :U], factor * y[:, U:]], dim=1)

    shortcut, before, after = factors
    skip = scaled(x, shortcut) if block.skip is None else block.skip(scaled(x, shortcut))
    h = block.conv0(F.silu(scaled(block.norm0(scaled(x, before)), after)))
    scale, shift = block.affine(emb)[:, :, None, None].chunk(2, dim=1)
    return block.conv1(F.silu(block.norm1(h) * (scale + 1) + shift)) + skip


FACTORS = {"input": (1, 1, 0), "residual": (1, 0, 0), "norm0_input": (0, 1, 0), "norm0_output": (0, 0, 1)}


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("place", FACTORS)
def test_place_acts_on_its_path_only(place, shortcut):
    block, site, x, emb = make_block(SHORTCUTS[shortcut])
    untouched = block(x, emb)
    with SkipTuning((0.4,), place).attached_to(block, [site]):
        y = block(x, emb)
    torch.testing.assert_close(y, formula(block, x, emb, [0.4**power for power in FACTORS[place]]))
    assert (y - untouched).abs().max() > 0.01
    assert torch.equal(block(x, emb), untouched)


NESTED = [
    combination
    for combination in itertools.product(SHORTCUTS, FACTORS, FACTORS)
    if combination != ("identity", "residual", "input")  # to be attached in the other order
]


@pytest.mark.parametrize(("shortcut", "outer", "inner"), NESTED)
def test_places_inside_each_other(shortcut, outer, inner):
    block, site, x, emb = make_block(SHORTCUTS[shortcut])
    factors = [0.4**a * 0.7**b for a, b in zip(FACTORS[outer], FACTORS[inner], strict=True)]
    with (
        SkipTuning((0.4,), outer).attached_to(block, [site]),
        SkipTuning((0.7,), inner).attached_to(block, [site]),
    ):
        y = block(x, emb)
    torch.testing.assert_close(y, formula(block, x, emb, factors))
