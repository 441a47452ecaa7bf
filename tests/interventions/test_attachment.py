"""Interventions are never silently without effect."""

import pytest
import torch
from torch import nn

from skiptune.denoisers import VPPrecond
from skiptune.errors import SkiptuneError
from skiptune.interventions import FreeU, SkipSite, SkipTuning, find_skip_sites, record_skip_norms

INTERVENTIONS = {
    "skip_tuning": SkipTuning.interpolated(0.5).attached_to,
    "freeu": FreeU(b1=1.2, b2=1.2).attached_to,
    "norms": record_skip_norms,
}
X, SIGMA = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(2.0)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    made = VPPrecond(8, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def test_network_compiled_before_is_refused_and_after_is_fine(denoiser):
    attached_to = INTERVENTIONS["skip_tuning"]
    denoiser.model = torch.compile(denoiser.model, backend="eager")
    untouched = denoiser(X, SIGMA)
    line = (
        r"VPPrecond did not call \d of its \d skip sites \(model._orig_mod.dec.\w+ first\).*after attaching"
    )
    with pytest.raises(SkiptuneError, match=line) as caught, attached_to(denoiser):
        denoiser(X, SIGMA)
    assert "\n" not in str(caught.value)
    torch.compiler.reset()
    with attached_to(denoiser):
        compiled = denoiser(X, SIGMA)
        assert torch.equal(denoiser(X, SIGMA), compiled)
    denoiser.model = denoiser.model._orig_mod
    with attached_to(denoiser):
        torch.testing.assert_close(denoiser(X, SIGMA), compiled)
    assert not torch.equal(compiled, untouched)
    torch.compiler.reset()


@pytest.mark.parametrize("attached_to", INTERVENTIONS.values(), ids=INTERVENTIONS)
def test_every_call_must_reach_every_site(denoiser, attached_to):
    last = find_skip_sites(denoiser)[-1]
    with attached_to(denoiser):
        denoiser(X, SIGMA)
        denoiser.model.dec[last.name.rpartition(".")[2]] = type(last.block)(16, 8, 32)
        with pytest.raises(SkiptuneError, match=rf"did not call 1 of its 4 skip sites \({last.name} first\)"):
            denoiser(X, SIGMA)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in denoiser.modules())


def test_what_is_no_network_is_refused():
    class Pipeline:
        unet = nn.Identity()

    for attached_to in INTERVENTIONS.values():
        with (
            pytest.raises(SkiptuneError, match="Pipeline is no torch module; .* pipe.unet"),
            attached_to(Pipeline()),
        ):
            pass
        with (
            pytest.raises(SkiptuneError, match="Identity is no U-Net of a known family"),
            attached_to(nn.Identity()),
        ):
            pass


class OwnUNet(nn.Module):
    """A user's network of no known family: its sites are named by hand."""

    def __init__(self):
        super().__init__()
        self.start, self.below, self.joined = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(8, 3, 1),
        )

    def forward(self, x):
        d = self.start(x)
        return self.joined(torch.cat([self.below(d), d], dim=1))


@torch.no_grad()
def test_network_of_no_family_with_sites_named_by_hand():
    torch.manual_seed(0)
    network = OwnUNet()
    with pytest.raises(SkiptuneError, match="OwnUNet is no U-Net of a known family"):
        find_skip_sites(network)
    sites = [SkipSite(0, "joined", network.joined, u_channels=4, d_channels=4)]
    d = network.start(X)
    expected = network.joined(torch.cat([network.below(d), 0.7 * d], dim=1))
    with SkipTuning.interpolated(0.7).attached_to(network, sites), record_skip_norms(network, sites) as norms:
        torch.testing.assert_close(network(X), expected)
    torch.testing.assert_close(norms.d[0].float(), 0.7 * d.flatten(1).norm(dim=1)[None])
    with FreeU(b1=1.2, s1=0.8).attached_to(network, sites):
        assert not torch.allclose(network(X), expected)
