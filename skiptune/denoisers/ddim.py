"""The DDPM U-Net of ermongroup/ddim, which predicts the noise; parameter names are those of its ``Model``.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B; Song et al. 2021, "Denoising Diffusion
Implicit Models". pesser's conversions of the DDPM weights and the networks of PNDM have the same layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.layers import silu
from skiptune.denoisers.resnet_blocks import (
    AttnBlock,
    DownLevel,
    Downsample,
    Middle,
    ResnetBlock,
    UpLevel,
    Upsample,
    group_norm,
)
from skiptune.errors import SkiptuneError

OFFICIAL_FIELDS = {
    "model": (
        "type", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "dropout",
        "resamp_with_conv",
    ),
    "data": ("image_size",),
    "diffusion": ("num_diffusion_timesteps",),
}  # fmt: skip


def ddim_kwargs(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``DDIMUNet`` from the official nested configuration ``{model:, data:, diffusion:}``.

    Raises:
        SkiptuneError: a field of the network is missing.
    """
    try:
        return {name: config[section][name] for section, names in OFFICIAL_FIELDS.items() for name in names}
    except (KeyError, TypeError) as error:
        needed = "; ".join(f"{section}: {', '.join(names)}" for section, names in OFFICIAL_FIELDS.items())
        raise SkiptuneError(f"a DDIM configuration lacks {error}; it needs {needed}") from error


def ddim_state(checkpoint: object) -> dict[str, Tensor]:
    """The state dict of the network in a loaded checkpoint, without the prefix of data-parallel training.

    Args:
        checkpoint: a state dict (converted DDPM weights), or the official training state ``[network,
            optimizer, epoch, step]`` with, where an average was kept, the averaged parameters as fifth entry:
            these are what the official code samples with, and what is returned.

    Raises:
        SkiptuneError: another form.
    """
    if not isinstance(checkpoint, (list, tuple)):
        return tensors_by_name(checkpoint)
    if not checkpoint:
        raise SkiptuneError("the DDIM checkpoint is an empty list; download it again")
    state = tensors_by_name(checkpoint[0])
    return state | tensors_by_name(checkpoint[4]) if len(checkpoint) > 4 else state


def tensors_by_name(state: object) -> dict[str, Tensor]:
    """A state dict with the prefix ``module.`` removed. Raises SkiptuneError if it is none."""
    if isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values()):
        return {str(name).removeprefix("module."): value for name, value in state.items()}
    raise SkiptuneError(
        "no DDIM checkpoint: expected a state dict or the list [network, optimizer, epoch, step, average]"
    )


class TimeEmbedding(nn.Module):
    """Sines, then cosines, of the time at log-spaced frequencies, through two dense layers: ``[N, 4 ch]``."""

    def __init__(self, ch: int):
        super().__init__()
        self.waves = ch // 2
        self.dense = nn.ModuleList([nn.Linear(ch, 4 * ch), nn.Linear(4 * ch, 4 * ch)])

    def forward(self, t: Tensor) -> Tensor:
        index = torch.arange(self.waves, dtype=torch.float32, device=t.device)
        phase = t.float()[:, None] * torch.exp(index * (-math.log(10000) / (self.waves - 1)))
        embedding = torch.cat([phase.sin(), phase.cos()], dim=1).to(next(self.parameters()).dtype)
        first, second = self.dense
        return second(silu(first(embedding)))


class DDIMUNet(nn.Module):
    """Predicts the noise ``eps(x_t, t)`` in ``x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps``.

    Args:
        ch, ch_mult: channels of level i are ``ch * ch_mult[i]``; level 0 is the full resolution.
        num_res_blocks: blocks per level of the encoder; the decoder has one more, each taking a skip.
        attn_resolutions: in pixels; attention follows every block there, and always in the middle.
        dropout: probability, acting in training mode only.
        resamp_with_conv: convolutions when resampling, else averaging and repetition alone.
        type: ``bayesian`` adds the official class's parameter ``logvar`` ``[num_diffusion_timesteps]``, on
            which the prediction does not depend; ``simple`` has none.
        num_groups: of the normalisation, officially always 32. A group of one channel loses its mean
            and scale, which a predictor of the noise needs: narrow networks want 4 channels in a group.
    """

    def __init__(
        self,
        ch: int,
        out_ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        dropout: float,
        resamp_with_conv: bool,
        in_channels: int,
        image_size: int,
        type: str = "simple",
        num_diffusion_timesteps: int = 1000,
        num_groups: int = 32,
    ):
        super().__init__()
        self.in_channels, self.resolution = in_channels, image_size
        self.image_shape = (in_channels, image_size, image_size)
        if type == "bayesian":
            self.logvar = nn.Parameter(torch.zeros(num_diffusion_timesteps))

        def block(width: int, out: int) -> ResnetBlock:
            return ResnetBlock(width, out, temb_channels=4 * ch, dropout=dropout, groups=num_groups)

        def attend(width: int) -> AttnBlock:
            return AttnBlock(width, num_groups)

        widths, last = [ch * mult for mult in ch_mult], len(ch_mult) - 1
        attention = [attend if image_size // 2**i in attn_resolutions else None for i in range(last + 1)]
        self.temb = TimeEmbedding(ch)
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down, channels, skips = nn.ModuleList(), ch, [ch]
        for level, width in enumerate(widths):
            inputs = [channels] + [width] * (num_res_blocks - 1)
            down = Downsample(width, resamp_with_conv) if level < last else None
            self.down.append(DownLevel([block(c, width) for c in inputs], attention[level], down))
            skips += [width] * (num_res_blocks + (level < last))
            channels = width
        self.mid = Middle(block, attend, channels)
        up: list[UpLevel] = []
        for level, width in reversed(list(enumerate(widths))):
            inputs = [channels] + [width] * num_res_blocks
            blocks = [block(c + skips.pop(), width) for c in inputs]
            upsample = Upsample(width, resamp_with_conv) if level else None
            up.append(UpLevel(blocks, attention[level], upsample))
            channels = width
        self.up = nn.ModuleList(reversed(up))
        self.norm_out = group_norm(channels, num_groups)
        self.conv_out = nn.Conv2d(channels, out_ch, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise, ``[N, out_ch, H, W]``.

        Args:
            x: noisy images ``x_t`` ``[N, C, H, W]``.
            t: time, ``[N]`` or ``[1]``, integer or fractional, counted from 0.
            condition: not used, the network is unconditional.

        Raises:
            SkiptuneError: images of another shape than the network was built for.
        """
        if x.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise SkiptuneError(f"images have shape {list(x.shape)}, expected [N, {expected}]")
        temb = self.temb(t.reshape(-1))
        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], temb)
        h = self.mid(skips[-1], temb)
        for level in reversed(self.up):
            h = level(h, temb, skips)
        return self.conv_out(silu(self.norm_out(h)))
