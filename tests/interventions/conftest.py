from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from skiptune.denoisers import guided as networks
from skiptune.denoisers.ddim import DDIMUNet
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.denoisers.uvit import UViT
from skiptune.interventions.skip_tuning import PLACES


@dataclass
class Family:
    """A small network, its sites ``(name, u, d, stage, resolution)`` and the places of Skip-Tuning it has."""

    network: nn.Module
    inputs: tuple[Any, ...]
    sites: list[tuple[str, int, int, int, int | None]]
    places: tuple[str, ...] = PLACES

    def __call__(self):
        output = self.network(*self.inputs)
        return getattr(output, "sample", output)

    def hooks(self):
        modules = self.network.modules()
        return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules)


def images(channels, size=16):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def edm2():
    network = EDM2Precond(
        16, 4, 5, logvar_channels=32, model_channels=16, channel_mult=[1, 2, 2], num_blocks=1,
        attn_resolutions=[8, 4], channels_per_head=16,
    )  # fmt: skip
    widths = [
        (4, 0, 32, 32),
        (4, 1, 32, 32),
        (8, 0, 32, 32),
        (8, 1, 32, 16),
        (16, 0, 32, 16),
        (16, 1, 16, 16),
    ]
    sites = [(f"unet.dec.{r}x{r}_block{i}", u, d, {4: 0, 8: 1, 16: 2}[r], r) for r, i, u, d in widths]
    return Family(network, (images(4), torch.tensor(2.5), torch.eye(5)[:2]), sites, ("input", "residual"))


def guided():
    network = networks.GuidedUNet(
        image_size=16, in_channels=3, model_channels=32, out_channels=3, num_res_blocks=1,
        attention_resolutions=[2], channel_mult=[1, 2], num_classes=6, num_head_channels=16,
        use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    widths = [(64, 64, 0), (64, 32, 0), (64, 32, 1), (32, 32, 1)]
    sites = [(f"output_blocks.{i}", u, d, stage, 8 << stage) for i, (u, d, stage) in enumerate(widths)]
    return Family(network, (images(3), torch.tensor([100.0]), torch.eye(6)[:2]), sites)


def latent():
    network = networks.LatentUNet(
        image_size=16, in_channels=3, model_channels=32, out_channels=3, num_res_blocks=1,
        attention_resolutions=[4, 2], channel_mult=[1, 1, 1], num_heads=1,
        transformer_depth=1, context_dim=24, use_spatial_transformer=True,
    )  # fmt: skip
    sites = [(f"output_blocks.{i}", 32, 32, i // 2, 4 << (i // 2)) for i in range(6)]
    context = torch.randn(2, 1, 24, generator=torch.Generator().manual_seed(2))
    return Family(network, (images(3), torch.tensor([100.0]), None, context), sites)


def ddim():
    network = DDIMUNet(32, 3, [1, 1, 2], 1, [8], 0.1, True, 3, 16)
    widths = [(2, 0, 64, 64), (2, 1, 64, 32), (1, 0, 64, 32), (1, 1, 32, 32), (0, 0, 32, 32), (0, 1, 32, 32)]
    sites = [(f"up.{level}.block.{i}", u, d, 2 - level, 16 >> level) for level, i, u, d in widths]
    return Family(network, (images(3), torch.tensor([100.0])), sites)


def uvit():
    network = UViT(16, 2, 3, 64, 5, 4, num_classes=7)
    sites = [(f"out_blocks.{i}.skip_linear", 64, 64, 0, 8) for i in range(2)]
    return Family(network, (images(3), torch.tensor([100.0]), torch.tensor([3, 5])), sites, ("input",))


def unconditional_diffusers():
    models = pytest.importorskip("diffusers", reason="diffusers is not installed")
    network = models.UNet2DModel(
        16, 3, 3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=8,
        down_block_types=("SkipDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "SkipUpBlock2D"),
    )  # fmt: skip
    widths = [(0, 0, 32, 32), (0, 1, 32, 16), (1, 0, 32, 16), (1, 1, 16, 16)]
    sites = [(f"up_blocks.{i}.resnets.{j}", u, d, i, 8 << i) for i, j, u, d in widths]
    return Family(network, (images(3), torch.tensor(300)), sites)


def conditional_diffusers():
    models = pytest.importorskip("diffusers", reason="diffusers is not installed")
    network = models.UNet2DConditionModel(
        16, 4, 4, layers_per_block=1, block_out_channels=(16, 32, 32), norm_num_groups=8,
        cross_attention_dim=12, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    widths = [(32, 32), (32, 32), (32, 32), (32, 16), (32, 16), (16, 16)]
    sites = [
        (f"up_blocks.{i // 2}.resnets.{i % 2}", u, d, i // 2, 4 << (i // 2))
        for i, (u, d) in enumerate(widths)
    ]
    prompt = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(2))
    return Family(network, (images(4), torch.tensor(300), prompt), sites)


FAMILIES = {
    make.__name__: make
    for make in (edm2, guided, latent, ddim, uvit, unconditional_diffusers, conditional_diffusers)
}


def enliven(network):
    """Weights of about unit gain everywhere: a fresh network has layers of zeros, so nothing would show."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() < 2:
            parameter.add_(0.3 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    """One network of every family, with weights that make every part matter."""
    made = FAMILIES[request.param]()
    made.network.eval().requires_grad_(False)
    enliven(made.network)
    return made
