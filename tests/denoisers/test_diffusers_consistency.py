"""The diffusers port of consistency models against diffusers itself."""

import pytest
import torch

from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.diffusers_consistency import consistency_description, official_state
from skiptune.errors import SkiptuneError

# Attention in the second level only; `block_out_channels` are unequal, as in the ImageNet-64 port.
UNET = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "num_class_embeds": 5,
    "block_out_channels": [32, 64, 96], "attention_head_dim": 16, "attn_norm_num_groups": 32,
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "resnet_time_scale_shift": "scale_shift", "upsample_type": "resnet", "downsample_type": "resnet",
}  # fmt: skip
IMAGENET64 = {
    **UNET, "sample_size": 64, "layers_per_block": 3, "num_class_embeds": 1000, "attention_head_dim": 64,
    "block_out_channels": [192, 384, 576, 768],
    "down_block_types": ["ResnetDownsampleBlock2D"] + ["AttnDownBlock2D"] * 3,
    "up_block_types": ["AttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
}  # fmt: skip
LSUN = {**UNET, "resnet_time_scale_shift": "default", "num_class_embeds": None}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def ported(diffusers, config, seed=0):
    """A network of diffusers with random parameters, and ours with the same ones."""
    theirs = diffusers.UNet2DModel(**config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in theirs.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    ours = ConsistencyDenoiser(**consistency_description(theirs.config)["kwargs"])
    ours.model.load_state_dict(official_state(theirs.state_dict(), theirs.config), strict=True)
    return theirs.eval().requires_grad_(False), ours.eval().requires_grad_(False)


@pytest.mark.parametrize("config", [UNET, LSUN], ids=["class-conditional", "unconditional"])
def test_converted_networks_compute_what_diffusers_does(diffusers, config):
    theirs, ours = ported(diffusers, config)
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([-310.5, 1095.5])
    labels = torch.tensor([4, 1]) if config["num_class_embeds"] else None
    reference = theirs(x, t, class_labels=labels).sample
    condition = None if labels is None else torch.nn.functional.one_hot(labels, 5).float()
    assert reference.std() > 0.1
    torch.testing.assert_close(ours.model(x, t, condition), reference, rtol=1e-4, atol=1e-4)


def test_one_step_sample_is_that_of_the_pipeline(diffusers):
    theirs, ours = ported(diffusers, UNET)
    scheduler = diffusers.CMStochasticIterativeScheduler()
    pipeline = diffusers.ConsistencyModelPipeline(unet=theirs, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 3])
    reference = pipeline(
        batch_size=2, class_labels=labels, num_inference_steps=1, output_type="np", latents=noise
    ).images
    x0 = ours(80 * noise, torch.tensor(80.0), torch.nn.functional.one_hot(labels, 5)).clamp(-1, 1)
    expected = torch.from_numpy(reference).permute(0, 3, 1, 2)
    torch.testing.assert_close((x0 + 1) / 2, expected, rtol=1e-3, atol=1e-3)


def test_the_imagenet64_port_is_the_published_network(diffusers):
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel(**IMAGENET64)
        ours = ConsistencyDenoiser(**consistency_description(theirs.config)["kwargs"])
    state = official_state(theirs.state_dict(), theirs.config)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in ours.model.state_dict().items()
    }
    assert sum(value.numel() for value in state.values()) == 295_899_267


def test_noise_levels_come_from_the_scheduler():
    kwargs = consistency_description(UNET, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 7.0})["kwargs"]
    assert (kwargs["sigma_min"], kwargs["sigma_max"], "rho" in kwargs) == (0.01, 50.0, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"downsample_type": "conv"}, "downsample_type is 'conv'"),
        ({"attn_norm_num_groups": None}, "attn_norm_num_groups"),
        ({"down_block_types": ["DownBlock2D"] * 3}, "blocks DownBlock2D"),
        ({"up_block_types": ["AttnUpBlock2D"] * 3}, "differs in encoder and decoder"),
    ],
)
def test_other_networks_are_refused(change, words):
    with pytest.raises(SkiptuneError, match=words):
        consistency_description({**UNET, **change})


def test_surplus_and_missing_parameters_are_refused():
    with pytest.raises(SkiptuneError, match="no place for down_blocks.7.resnets.0.norm1.weight"):
        official_state({"down_blocks.7.resnets.0.norm1.weight": torch.zeros(1)}, UNET)
    with pytest.raises(SkiptuneError, match="needs to_q, to_k and to_v"):
        official_state({"mid_block.attentions.0.to_q.weight": torch.zeros(2, 2)}, UNET)
