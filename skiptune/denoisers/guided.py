"""The guided-diffusion U-Net, in the two forms whose checkpoints are used.

Dhariwal & Nichol 2021 (ADM). Parameter names and arguments are those of openai/consistency_models
(``GuidedUNet``) and of CompVis/latent-diffusion (``LatentUNet``), both called UNetModel there. The arguments
``use_checkpoint`` (memory in training) and ``image_size`` change no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skiptune.denoisers.guided_layers import (
    AttentionBlock,
    Conv2d,
    Downsample,
    ResBlock,
    Upsample,
    timestep_embedding,
    zeroed,
)
from skiptune.denoisers.layers import silu
from skiptune.denoisers.normalisation import GroupNorm
from skiptune.denoisers.transformer import SpatialTransformer
from skiptune.errors import SkiptuneError

MakeAttention = Callable[[int, bool], nn.Module]
"""(channels, whether in the decoder) -> the attention layer there."""


class Stage(nn.ModuleList):
    """Layers in sequence; each is given what it takes of the embedding and the condition tokens."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class UNet(nn.Module):
    """The common structure: every encoder stage leaves one skip, every decoder stage takes one."""

    def __init__(
        self,
        attention: MakeAttention,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float,
        channel_mult: Sequence[float],
        conv_resample: bool,
        dims: int,
        num_classes: int | None,
        use_fp16: bool,
        use_scale_shift_norm: bool,
        resblock_updown: bool,
    ):
        super().__init__()
        if dims != 2:
            raise SkiptuneError(f"a U-Net on images has dims=2, got {dims}")
        self.model_channels, self.use_fp16, self.num_classes = model_channels, use_fp16, num_classes or 0
        emb = 4 * model_channels
        self.time_embed = nn.Sequential(nn.Linear(model_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        if num_classes:
            self.label_emb = nn.Embedding(num_classes, emb)

        def block(width: int, out: int, *, up: bool = False, down: bool = False) -> ResBlock:
            return ResBlock(
                width, out, emb, dropout=dropout, scale_shift=use_scale_shift_norm, up=up, down=down
            )

        widths = [int(mult * model_channels) for mult in channel_mult]
        channels, factor = widths[0], 1
        skips = [channels]
        self.input_blocks = nn.ModuleList([Stage([Conv2d(in_channels, channels, 3, padding=1)])])
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                stage = Stage([block(channels, width)])
                channels = width
                if factor in attention_resolutions:
                    stage.append(attention(channels, False))
                self.input_blocks.append(stage)
                skips.append(channels)
            if level < len(widths) - 1:
                down = block(channels, channels, down=True) if resblock_updown else None
                self.input_blocks.append(Stage([down or Downsample(channels, conv_resample)]))
                skips.append(channels)
                factor *= 2
        middle = [block(channels, channels), attention(channels, False), block(channels, channels)]
        self.middle_block = Stage(middle)
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(num_res_blocks + 1):
                stage = Stage([block(channels + skips.pop(), width)])
                channels = width
                if factor in attention_resolutions:
                    stage.append(attention(channels, True))
                if level and i == num_res_blocks:
                    up = block(channels, channels, up=True) if resblock_updown else None
                    stage.append(up or Upsample(channels, conv_resample))
                    factor //= 2
                self.output_blocks.append(stage)
        last = zeroed(Conv2d(channels, out_channels, 3, padding=1))
        self.out = nn.Sequential(GroupNorm(32, channels), nn.SiLU(), last)

    def forward(
        self, x: Tensor, t: Tensor, condition: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The raw output ``[N, C, H, W]`` in the type of ``x``.

        Args:
            x: scaled noisy images ``[N, C, H, W]``.
            t: time, ``[1]`` or ``[N]``, integer or fractional.
            condition: one-hot labels ``[1 or N, num_classes]``; ``None`` and zeros add no class embedding.
            context: condition tokens ``[N, T, context_dim]`` of the spatial transformers.
        """
        emb = self.time_embed(timestep_embedding(t.reshape(-1), self.model_channels))
        if self.num_classes and condition is not None:
            emb = emb + condition.to(emb.dtype) @ self.label_emb.weight
        # Half precision only where it is fast; the last layers are float32, as in the official code.
        h = x.to(torch.float16) if self.use_fp16 and x.device.type == "cuda" else x
        skips = []
        for stage in self.input_blocks:
            h = stage(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb, context)
        norm, _, conv = self.out
        return conv(silu(norm(h.to(x.dtype))))


class GuidedUNet(UNet):
    """UNetModel of openai/consistency_models: self-attention, class labels added to the time embedding.

    ``use_new_attention_order`` changes nothing there: q, k and v are always split before the heads.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        conv_resample: bool = True,
        dims: int = 2,
        num_classes: int | None = None,
        use_checkpoint: bool = False,
        use_fp16: bool = False,
        num_heads: int = 1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
    ):
        def attention(channels: int, decoder: bool) -> AttentionBlock:
            wanted = num_heads_upsample if decoder and num_heads_upsample != -1 else num_heads
            heads = head_count(channels, wanted, num_head_channels)
            return AttentionBlock(channels, heads, heads_first=False, flat=False)

        super().__init__(
            attention, in_channels, model_channels, out_channels, num_res_blocks, attention_resolutions,
            dropout, channel_mult, conv_resample, dims, num_classes, use_fp16, use_scale_shift_norm,
            resblock_updown,
        )  # fmt: skip
        self.image_shape = (in_channels, image_size, image_size)


class LatentUNet(UNet):
    """UNetModel of CompVis/latent-diffusion: spatial transformers that attend to condition tokens.

    Without ``use_spatial_transformer`` it has the self-attention of guided-diffusion; q, k and v are split
    after the heads there, unless ``use_new_attention_order``.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        conv_resample: bool = True,
        dims: int = 2,
        num_classes: int | None = None,
        use_checkpoint: bool = False,
        use_fp16: bool = False,
        num_heads: int = -1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        use_spatial_transformer: bool = False,
        transformer_depth: int = 1,
        context_dim: int | None = None,
        legacy: bool = True,
    ):
        if use_spatial_transformer and context_dim is None:
            raise SkiptuneError("a spatial transformer needs the width of its condition tokens, context_dim")

        def attention(channels: int, decoder: bool) -> nn.Module:
            own = decoder and legacy and not use_spatial_transformer and num_heads_upsample != -1
            heads = head_count(channels, num_heads_upsample if own else num_heads, num_head_channels)
            if use_spatial_transformer:
                assert context_dim is not None
                width = channels // heads if legacy or num_head_channels == -1 else num_head_channels
                return SpatialTransformer(channels, heads, width, transformer_depth, context_dim)
            return AttentionBlock(channels, heads, heads_first=not use_new_attention_order, flat=True)

        super().__init__(
            attention, in_channels, model_channels, out_channels, num_res_blocks, attention_resolutions,
            dropout, channel_mult, conv_resample, dims, num_classes, use_fp16, use_scale_shift_norm,
            resblock_updown,
        )  # fmt: skip
        self.image_shape = (in_channels, image_size, image_size)


def head_count(channels: int, num_heads: int, num_head_channels: int) -> int:
    """Heads of an attention layer: ``num_heads`` of them, or as many of ``num_head_channels`` as fit.

    Raises:
        SkiptuneError: the channels cannot be split like that.
    """
    heads = num_heads if num_head_channels == -1 else channels // num_head_channels
    width = num_head_channels if num_head_channels != -1 else channels // max(heads, 1)
    if heads < 1 or heads * width != channels:
        raise SkiptuneError(
            f"{channels} channels cannot be split into attention heads: change num_heads ({num_heads}) or "
            f"num_head_channels ({num_head_channels})"
        )
    return heads
