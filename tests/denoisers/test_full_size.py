"""The published networks at full size, built without memory."""

import pytest
import torch

from skiptune.denoisers import EDMPrecond
from skiptune.interventions import find_skip_sites

ADM_IMAGENET64 = {
    "img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet",
    "model_channels": 192, "channel_mult": [1, 2, 3, 4],
}  # fmt: skip
DDPMPP_AFHQ64 = {
    "img_resolution": 64, "img_channels": 3, "augment_dim": 9, "model_type": "SongUNet",
    "model_channels": 128, "channel_mult": [1, 2, 2, 2],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kwargs", "parameters", "sites", "matching"),
    [(ADM_IMAGENET64, 295_899_267, 16, 10), (DDPMPP_AFHQ64, 61_805_571, 20, 18)],
    ids=["adm_imagenet64", "ddpmpp_afhq64"],
)
def test_parameters_and_skip_sites(kwargs, parameters, sites, matching):
    with torch.device("meta"):
        denoiser = EDMPrecond(**kwargs)
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == parameters
    found = find_skip_sites(denoiser)
    assert (len(found), sum(site.matching for site in found)) == (sites, matching)
    assert [site.index for site in found] == list(range(sites))
    assert [found[0].resolution, found[-1].resolution] == [8, 64]
