"""Group normalisation hides the scale of a group of skip channels (Skip-Tuning, appendix C)."""

import pytest
import torch
import torch.nn.functional as F

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.denoisers.layers import UNetBlock
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipSite, SkipTuning, find_skip_sites
from skiptune.interventions.block_paths import (
    BlockCall,
    group_kinds,
    norm0_changes,
    output_changes,
    record_block_calls,
)

RHO = 0.6


def make_call(u, d, out=16):
    """A block of random weights on features of unit variance; four channels a group."""
    generator = torch.Generator().manual_seed(1)
    block = UNetBlock(u + d, out, 4).eval().requires_grad_(False)
    for parameter in block.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    site = SkipSite(0, "block", block, u, d, block.norm0, block.skip)
    x, emb = torch.randn(3, u + d, 4, 4, generator=generator), torch.randn(3, 4, generator=generator)
    return BlockCall(site, (x, emb), {}, block(x, emb))


def test_kinds_of_groups():
    assert group_kinds(make_call(8, 8).site) == ("decoder", "decoder", "skip", "skip")
    assert group_kinds(make_call(6, 10).site) == ("decoder", "mixed", "skip", "skip")
    assert group_kinds(make_call(4, 4).site) == ("decoder", "skip")


def test_only_groups_of_both_kinds_change():
    call = make_call(6, 10)
    changes = norm0_changes(call, RHO)
    assert changes.shape == (3, 4) and changes.dtype == torch.float64
    assert (changes[:, 0] == 0).all()
    assert (changes[:, 2:] < 1e-3).all() and (changes[:, 2:] > 0).all()
    assert (changes[:, 1] > 0.05).all()
    assert (norm0_changes(call, 1.0) == 0).all()


def test_change_of_a_mixed_group_is_that_of_the_formula():
    call = make_call(6, 10)
    call.site.norm.weight.fill_(1.0)
    call.site.norm.bias.zero_()
    x = call.arguments[0][:, 4:8].double()

    def standardised(group):
        return F.layer_norm(group, group.shape[1:], eps=call.site.norm.eps)

    scaled = torch.cat([x[:, :2], RHO * x[:, 2:]], dim=1)
    expected = (standardised(scaled) - standardised(x)).flatten(1).norm(dim=1) / standardised(x).flatten(
        1
    ).norm(dim=1)
    torch.testing.assert_close(norm0_changes(call, RHO)[:, 1], expected, rtol=1e-4, atol=0)


def test_epsilon_shows_where_features_are_small():
    """A skip group of variance v changes by rho sqrt((v + eps) / (rho^2 v + eps)) - 1, and no more."""
    call = make_call(8, 8)
    norm = call.site.norm
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    tiny = BlockCall(call.site, (3e-3 * call.arguments[0], call.arguments[1]), {}, call.output)
    variance = tiny.arguments[0][:, 8:].double().unflatten(1, (2, 4)).flatten(2).var(dim=2, correction=0)
    expected = 1 - RHO * ((variance + norm.eps) / (RHO**2 * variance + norm.eps)).sqrt()
    assert (expected > 0.05).all()
    torch.testing.assert_close(norm0_changes(tiny, RHO)[:, 2:], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("place", ["input", "residual", "norm0_input", "norm0_output"])
def test_output_changes_are_those_of_the_formula(place):
    call = make_call(8, 8, out=12)
    x, emb = call.arguments
    with SkipTuning((RHO,), place).attached_to(call.site.block, [call.site]):
        tuned = call.site.block(x.clone(), emb)
    expected = (tuned - call.output).flatten(1).norm(dim=1) / call.output.flatten(1).norm(dim=1)
    before = x.clone()
    torch.testing.assert_close(output_changes(call, RHO, place).float(), expected)
    assert torch.equal(x, before) and not call.site.norm._forward_hooks
    assert (output_changes(call, 1.0, place) == 0).all()


def test_without_mixed_groups_the_norm_path_hides_the_scale_and_the_residual_does_not():
    call = make_call(8, 8)
    full, residual, inside, behind = (
        output_changes(call, RHO, place) for place in ("input", "residual", "norm0_input", "norm0_output")
    )
    assert (inside < 1e-3).all() and (residual > 0.1).all() and (behind > 0.01).all()
    torch.testing.assert_close(full, residual, rtol=1e-2, atol=0)


@pytest.fixture(scope="module")
def desk_calls():
    desk = load_desk_denoiser("edm_glyphs").denoiser
    noise = torch.randn(2, *desk.image_shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad(), record_block_calls(desk) as calls:
        desk(noise, torch.tensor(1.0), torch.eye(desk.num_classes)[:2])
    return desk, calls


def test_blocks_of_a_desk_network(desk_calls):
    """On features that a trained network computes: every site once, and the identity at each of them."""
    desk, calls = desk_calls
    assert [call.site.name for call in calls] == [site.name for site in find_skip_sites(desk)]
    kinds = set()
    for call in calls:
        changes = norm0_changes(call, RHO)
        for kind, change in zip(group_kinds(call.site), changes.T, strict=True):
            kinds.add(kind)
            assert {"decoder": change == 0, "skip": change < 1e-3, "mixed": change > 1e-2}[kind].all()
        assert (output_changes(call, RHO) > 1e-3).all() and (output_changes(call, 1.0) == 0).all()
    assert "skip" in kinds
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in desk.modules())


def test_straddling_groups_of_a_whole_network(golden):
    """ADM's unequal widths: the mixed groups, and no others, tell norm0 of the scale (ST-C28's criterion)."""
    _, denoiser, io = golden("edm_adm_straddle")
    with torch.no_grad(), record_block_calls(denoiser) as calls:
        denoiser(io["x"][2], torch.tensor(2.5), io["class_labels"])
    largest = {"decoder": 0.0, "skip": 0.0}
    mixed = []
    for call in calls:
        for kind, change in zip(group_kinds(call.site), norm0_changes(call, RHO).T, strict=True):
            if kind == "mixed":
                mixed.append(float(change.min()))
            else:
                largest[kind] = max(largest[kind], float(change.max()))
    assert largest["decoder"] == 0 and 0 < largest["skip"] < 1e-3
    assert mixed and min(mixed) > 1e-2


def test_every_family_replays_its_blocks(family):
    with torch.no_grad(), record_block_calls(family.network) as calls:
        family()
    assert len(calls) == len(family.sites)
    for call in calls:
        assert (output_changes(call, 1.0) == 0).all() and (output_changes(call, RHO) > 0).all()
        if call.site.norm is None:
            with pytest.raises(SkiptuneError, match="group normalisation"):
                norm0_changes(call, RHO)
            with pytest.raises(SkiptuneError, match="group normalisation"):
                group_kinds(call.site)
        else:
            assert norm0_changes(call, RHO).shape[1] == len(group_kinds(call.site))
