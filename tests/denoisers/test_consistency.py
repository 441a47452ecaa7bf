"""Consistency models and the guided-diffusion U-Net, with parity where reference data lies."""

from pathlib import Path

import pytest
import torch

from experiments.golden.verify import verify
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.guided import GuidedUNet, LatentUNet
from skiptune.errors import SkiptuneError

SHARED = Path(__file__).parents[3] / "shared/golden"
SMALL = dict(
    image_size=8, in_channels=3, model_channels=32, out_channels=3, num_res_blocks=1,
    attention_resolutions=[2], channel_mult=[1, 2], num_classes=4, num_head_channels=16,
    use_scale_shift_norm=True, resblock_updown=True,
)  # fmt: skip


def randomised(network):
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("case", ["cm_unet", "ldm_unet"])
def test_parity_with_the_official_networks(case):
    if not (SHARED / "manifest.json").exists():
        pytest.skip("no shared/golden beside the repository")
    (report,) = verify(SHARED, [case])
    assert (report.status, report.reason) == ("pass", "")


def test_a_distilled_model_is_the_identity_at_its_lowest_level():
    denoiser = randomised(ConsistencyDenoiser(**SMALL))
    x, condition = torch.randn(2, 3, 8, 8), torch.eye(4)[:2]
    assert torch.equal(denoiser(x, torch.tensor(denoiser.sigma_min), condition), x)
    teacher = randomised(ConsistencyDenoiser(**SMALL, distillation=False))
    assert not torch.equal(teacher(x, torch.tensor(denoiser.sigma_min), condition), x)


def test_condition_changes_the_estimate_and_no_condition_is_no_class():
    denoiser = randomised(ConsistencyDenoiser(**SMALL))
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor(3.0)
    one, two = (denoiser(x, sigma, torch.eye(4)[[k, k]]) for k in (0, 1))
    assert not torch.allclose(one, two)
    # One row of labels or two: the kernels may round differently.
    torch.testing.assert_close(denoiser(x, sigma), denoiser(x, sigma, torch.zeros(2, 4)))
    assert denoiser.num_classes == 4 and denoiser.image_shape == (3, 8, 8) and denoiser.nfe == 4


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (
            lambda: GuidedUNet(
                64, 3, 192, 3, 3, [2, 4, 8], 0.0, [1, 2, 3, 4], num_classes=1000, num_head_channels=64,
                use_scale_shift_norm=True, resblock_updown=True,
            ),
            295_899_267,
        ),
        (
            lambda: LatentUNet(
                64, 3, 192, 3, 2, [8, 4, 2], 0.0, [1, 2, 3, 5], num_heads=1, use_spatial_transformer=True,
                transformer_depth=1, context_dim=512,
            ),
            400_920_579,
        ),
    ],
    ids=["consistency ImageNet-64", "latent diffusion cin256"],
)  # fmt: skip
def test_full_size_has_the_published_number_of_parameters(build, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == parameters


def test_settings_that_cannot_be_are_one_line():
    with pytest.raises(SkiptuneError, match="attention heads"):
        GuidedUNet(**{**SMALL, "num_head_channels": 24})
    with pytest.raises(SkiptuneError, match="context_dim"):
        LatentUNet(**{**SMALL, "use_spatial_transformer": True})
