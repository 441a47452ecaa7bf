"""U-Nets of Stable Diffusion and SDXL in small, with random weights: the same blocks."""

import torch

UNETS = {
    "sd": {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 1,
    },
    "sdxl": {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 30,
    },
}


def tiny_unet(models, kind, **options):
    """A network of ``diffusers`` (``models``), in float64 so that equal computations agree closely."""
    torch.manual_seed(0)
    settings = {"norm_num_groups": 4, "cross_attention_dim": 12, "attention_head_dim": 4, **UNETS[kind]}
    network = models.UNet2DConditionModel(8, 4, 4, **{**settings, **options})
    network = network.eval().requires_grad_(False).double()
    for name, parameter in network.named_parameters():
        if "attentions" in name and parameter.dim() > 1:
            parameter.mul_(2)  # a fresh transformer adds next to nothing to its input
    return network


def inputs(kind, count=2):
    """What the network is called with besides the time."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, 8, 8, generator=generator).double()
    named = {"encoder_hidden_states": torch.randn(count, 5, 12, generator=generator).double()}
    if kind == "sdxl":
        time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(count, -1)
        added = {"text_embeds": torch.randn(count, 6, generator=generator).double(), "time_ids": time_ids}
        named["added_cond_kwargs"] = added
    return x, named
