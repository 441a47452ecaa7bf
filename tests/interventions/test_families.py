"""Every architecture family: where its sites are, and that all that acts on sites acts there."""

import pytest
import torch
from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions import FreeU, SkipTuning, find_skip_sites, network_family, record_skip_norms
from skiptune.interventions.skip_tuning import PLACES


def test_sites_are_those_of_the_official_network(family):
    sites = find_skip_sites(family.network)
    found = [(site.name, site.u_channels, site.d_channels, site.stage, site.resolution) for site in sites]
    assert found == family.sites
    assert [site.index for site in sites] == list(range(len(sites)))
    assert all(family.network.get_submodule(site.name) is site.block for site in sites)


def test_sites_are_in_the_order_of_execution_and_get_the_concatenation(family):
    seen = []

    def listen(site):
        return site.block.register_forward_pre_hook(lambda _, args: seen.append((site, args[0].shape)))

    sites = find_skip_sites(family.network)
    handles = [listen(site) for site in sites]
    family()
    for handle in handles:
        handle.remove()
    assert [site.index for site, _ in seen] == list(range(len(sites)))
    full = family.inputs[0].shape[-1]
    for site, shape in seen:
        assert shape[site.channel_dim] == site.u_channels + site.d_channels
        if site.channel_dim == 1:
            assert shape[-1] == full >> (sites[-1].stage - site.stage)
            assert site.resolution in (None, shape[-1])
        else:
            assert 0 < shape[1] - site.resolution**2 < 3


@pytest.mark.parametrize("place", PLACES)
def test_places(family, place):
    untouched = family()
    for rho in (1.0, 0.5):
        tuning = SkipTuning.interpolated(rho, rho, place=place)
        if place not in family.places:
            with (
                pytest.raises(SkiptuneError, match=f"place '{place}' .* does not exist here, .* has no"),
                tuning.attached_to(family.network),
            ):
                pass
        else:
            with tuning.attached_to(family.network):
                assert torch.equal(family(), untouched) == (rho == 1)
        assert family.hooks() == 0
    assert torch.equal(family(), untouched)


def test_both_paths_of_the_block_together_are_its_input(family):
    if family.places != PLACES:
        pytest.skip("the block has one path")
    half = [SkipTuning.interpolated(0.5, 0.5, place=place) for place in ("residual", "norm0_input", "input")]
    with half[2].attached_to(family.network):
        expected = family()
    with half[0].attached_to(family.network), half[1].attached_to(family.network):
        torch.testing.assert_close(family(), expected)


def test_only_the_skip_is_scaled(family):
    sites = find_skip_sites(family.network)
    with (
        record_skip_norms(family.network) as before,
        SkipTuning.interpolated(0.5).attached_to(family.network),
    ):
        family()
    with SkipTuning.interpolated(0.5).attached_to(family.network), record_skip_norms(family.network) as after:
        family()
    rho = torch.tensor(SkipTuning.interpolated(0.5).coefficients(sites), dtype=torch.float64)
    torch.testing.assert_close(after.d[0], rho[:, None] * before.d[0], rtol=1e-6, atol=0)
    assert torch.equal(after.u[0], before.u[0])
    assert before.u[0].shape == (len(sites), 2)


def test_gradients_pass(family):
    x, *others = family.inputs
    untouched = family()
    interventions = [SkipTuning.interpolated(0.5), FreeU(b1=1.3, s1=0.7, variant="map")]
    for intervention in interventions:
        with intervention.attached_to(family.network):
            with torch.no_grad():
                expected = family()
            leaf = x.clone().requires_grad_()
            output = family.network(leaf, *others)
            output = getattr(output, "sample", output)
        torch.testing.assert_close(output, expected)
        output.sum().backward()
        assert torch.isfinite(leaf.grad).all() and leaf.grad.abs().max() > 0
    assert torch.equal(family(), untouched)


def test_freeu_acts_and_is_neutral_at_one(family):
    untouched = family()
    with FreeU().attached_to(family.network):
        assert family.hooks() == 1 and torch.equal(family(), untouched)
    for settings in ({"b1": 1.3}, {"s1": 0.5}, {"b1": 1.3, "variant": "map"}, {"b1": 1.3, "by": "width"}):
        with FreeU(**settings).attached_to(family.network):
            assert (family() - untouched).abs().max() > 1e-3
    assert family.hooks() == 0 and torch.equal(family(), untouched)


class Wrapped(nn.Module):
    def __init__(self, attribute, inner):
        super().__init__()
        setattr(self, attribute, inner)
        self.image_shape = (3, 32, 32)


@pytest.mark.parametrize("attribute", ["model", "network", "unet", "module", "denoiser", "diffusion_model"])
def test_wrappers_are_seen_through(family, attribute):
    whole = Wrapped("model", Wrapped(attribute, family.network))
    names = [site.name for site in find_skip_sites(whole)]
    assert names == [f"model.{attribute}.{name}" for name, *_ in family.sites]
    assert network_family(whole) is network_family(family.network)
    known = family.sites[-1][4]
    assert find_skip_sites(whole)[-1].resolution == (32 if known is None else known)
