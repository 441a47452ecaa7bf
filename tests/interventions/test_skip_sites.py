import pytest
import torch
from torch import nn

from skiptune.denoisers import VPPrecond
from skiptune.errors import SkiptuneError
from skiptune.interventions import find_skip_sites

CASES = ["edm_adm", "edm_adm_straddle", "edm_song_straddle", "edm_ve_precond", "edm_iddpm_precond"]


@pytest.mark.parametrize("case", CASES)
def test_sites_are_those_of_the_official_network(golden, case):
    entry, denoiser, _ = golden(case)
    sites = find_skip_sites(denoiser)
    assert len(sites) == len(entry["skip_connections"])
    for site, expected in zip(sites, entry["skip_connections"], strict=True):
        assert site.name == f"model.dec.{expected['decoder_block']}"
        assert denoiser.get_submodule(site.name) is site.block
        assert (site.u_channels, site.d_channels) == (expected["u_channels"], expected["d_channels"])
        assert site.matching == (expected["u_channels"] == expected["d_channels"])
        assert site.resolution == int(expected["decoder_block"].split("x")[0])
        assert site.norm.num_groups == expected["first_norm_groups"]
        assert site.shortcut is site.block.skip


def test_network_with_and_without_preconditioning(golden):
    _, denoiser, _ = golden("edm_adm_straddle")
    inner = find_skip_sites(denoiser.model)
    assert [site.name for site in inner] == [
        site.name.removeprefix("model.") for site in find_skip_sites(denoiser)
    ]


@pytest.mark.parametrize("kind", ["standard", "skip", "residual"])
def test_auxiliary_layers_are_no_sites(kind):
    denoiser = VPPrecond(
        16, 3, model_channels=8, channel_mult=[1, 2, 2], num_blocks=1, encoder_type=kind, decoder_type="skip"
    ).eval()
    sites = find_skip_sites(denoiser)
    assert [site.d_channels for site in sites] == [16, 16, 16, 8, 8, 8]
    widths = {}
    for site in sites:
        site.block.register_forward_pre_hook(
            lambda _, args, index=site.index: widths.update({index: args[0].shape})
        )
    with torch.no_grad():
        denoiser(torch.zeros(1, 3, 16, 16), torch.tensor(1.0))
    assert widths == {s.index: (1, s.u_channels + s.d_channels, s.resolution, s.resolution) for s in sites}


def test_unknown_networks_are_refused(golden):
    with pytest.raises(
        SkiptuneError, match=r"Linear is no U-Net of a known family \(EDM, EDM2, guided diffusion"
    ):
        find_skip_sites(nn.Linear(1, 1))
    broken = VPPrecond(16, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1)
    broken.model.dec["8x8_block1"].in_channels = 20
    with pytest.raises(SkiptuneError, match=r"8x8_block1 takes 20 channels, decoder and skip have 16\+8"):
        find_skip_sites(broken)
