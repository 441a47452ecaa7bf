"""Skip sites of the published networks at full size, built without memory."""

import pytest
import torch

from skiptune.denoisers import EDMPrecond, guided
from skiptune.denoisers.ddim import DDIMUNet
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.denoisers.uvit import UViT
from skiptune.interventions import find_skip_sites


def adm():
    return EDMPrecond(64, 3, 1000, model_type="DhariwalUNet", model_channels=192, channel_mult=[1, 2, 3, 4])


def ddpmpp():
    return EDMPrecond(
        64, 3, augment_dim=9, model_type="SongUNet", model_channels=128, channel_mult=[1, 2, 2, 2]
    )


def edm2_s():
    return EDM2Precond(64, 3, 1000, model_channels=192)


def consistency():
    return guided.GuidedUNet(
        image_size=64, in_channels=3, model_channels=192, out_channels=3, num_res_blocks=3,
        attention_resolutions=[2, 4, 8], channel_mult=[1, 2, 3, 4], num_classes=1000, num_head_channels=64,
        use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip


def latent():
    return guided.LatentUNet(
        image_size=64, in_channels=3, model_channels=192, out_channels=3, num_res_blocks=2,
        attention_resolutions=[8, 4, 2], channel_mult=[1, 2, 3, 5], num_heads=1, transformer_depth=1,
        context_dim=512, use_spatial_transformer=True,
    )  # fmt: skip


def uvit_h():
    return UViT(32, 2, 4, 1152, 28, 16, num_classes=1001, conv=False)


def uvit_l():
    return UViT(32, 2, 4, 1024, 20, 16, num_classes=1001)


def ddim_cifar10():
    return DDIMUNet(128, 3, [1, 2, 2, 2], 2, [16], 0.1, True, 3, 32)


@pytest.mark.parametrize(
    ("build", "sites", "matching", "stages"),
    [
        (adm, 16, 10, 4), (ddpmpp, 20, 18, 4), (edm2_s, 16, 10, 4), (consistency, 16, 10, 4),
        (latent, 12, 6, 4), (uvit_h, 14, 14, 1), (uvit_l, 10, 10, 1), (ddim_cifar10, 12, 10, 4),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_sites(build, sites, matching, stages):
    with torch.device("meta"):
        network = build()
    found = find_skip_sites(network)
    assert [site.index for site in found] == list(range(sites))
    assert sum(site.matching for site in found) == matching
    assert [found[0].stage, found[-1].stage] == [0, stages - 1]
    assert [site.stage for site in found] == sorted(site.stage for site in found)
