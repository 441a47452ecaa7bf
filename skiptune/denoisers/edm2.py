"""EDM2: the magnitude-preserving U-Net and its preconditioning.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models" (figure 21, appendix
B). Arguments, parameter names and shapes are those of the published networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.edm2_layers import (
    MPConv,
    MPFourier,
    MPSiLU,
    Resampling,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    self_attention,
)
from skiptune.errors import SkiptuneError


class Block(nn.Module):
    """Residual block, optionally resampling, optionally followed by self-attention.

    An encoder block (``flavor="enc"``) changes the width and normalises every pixel before both paths. A
    decoder block receives the weighted concatenation ``[w_u u, w_d d]`` as ``x`` and has no normalisation:
    its residual branch begins with the non-linearity ``act0``, its main branch with the 1x1 layer
    ``conv_skip`` (``None`` where the width does not change). Hooks on these two act on one path of the block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        flavor: str = "enc",
        resample_mode: str = "keep",
        resample_filter: Sequence[float] = (1, 1),
        attention: bool = False,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256,
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.is_encoder = in_channels, out_channels, flavor == "enc"
        self.heads = out_channels // channels_per_head if attention else 0
        self.dropout, self.clip_act = dropout, clip_act
        self.res_balance, self.attn_balance = res_balance, attn_balance
        if self.heads and out_channels % self.heads:
            raise SkiptuneError(
                f"{out_channels} channels cannot be split into attention heads: change channels_per_head "
                f"({channels_per_head})"
            )
        self.resample = Resampling(resample_mode, resample_filter)
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.act0 = MPSiLU()
        self.conv_res0 = MPConv(out_channels if self.is_encoder else in_channels, out_channels, 3)
        self.emb_linear = MPConv(emb_channels, out_channels)
        self.conv_res1 = MPConv(out_channels, out_channels, 3)
        self.conv_skip = MPConv(in_channels, out_channels, 1) if in_channels != out_channels else None
        if self.heads:
            self.attn_qkv = MPConv(out_channels, out_channels * 3, 1)
            self.attn_proj = MPConv(out_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``x`` is ``[N, in, H, W]``, ``emb`` is ``[1 or N, emb]`` float32."""
        x = self.resample(x)
        if self.is_encoder:
            x = normalize(x if self.conv_skip is None else self.conv_skip(x), dim=1)
        y = self.conv_res0(self.act0(x))
        modulation = self.emb_linear(emb, self.emb_gain) + 1
        y = mp_silu(y * modulation[:, :, None, None].to(y.dtype))
        y = self.conv_res1(F.dropout(y, self.dropout, self.training))
        if not self.is_encoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.res_balance)
        if self.heads:
            y = self.attn_proj(self_attention(self.attn_qkv(x), self.heads))
            x = mp_sum(x, y, self.attn_balance)
        return x if self.clip_act is None else x.clip_(-self.clip_act, self.clip_act)


class EDM2UNet(nn.Module):
    """The raw network. Widths: ``model_channels`` times ``channel_mult``, one entry per resolution.

    Every decoder block named ``*_block*`` takes a skip, concatenated here by ``mp_cat``.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        **block: Any,
    ):
        super().__init__()
        widths = [model_channels * mult for mult in channel_mult]
        noise = widths[0] if channel_mult_noise is None else model_channels * channel_mult_noise
        emb = max(widths) if channel_mult_emb is None else model_channels * channel_mult_emb
        self.label_balance, self.concat_balance = label_balance, concat_balance
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(noise)
        self.emb_noise = MPConv(noise, emb)
        self.emb_label = MPConv(label_dim, emb) if label_dim else None

        resolutions = [img_resolution >> level for level in range(len(widths))]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels, skips = widths[0], [widths[0]]
        self.enc[f"{img_resolution}x{img_resolution}_conv"] = MPConv(img_channels + 1, channels, 3)
        for level, (res, width) in enumerate(zip(resolutions, widths, strict=True)):
            if level:
                self.enc[f"{res}x{res}_down"] = Block(
                    channels, channels, emb, "enc", resample_mode="down", **block
                )
                skips.append(channels)
            for index in range(num_blocks):
                self.enc[f"{res}x{res}_block{index}"] = Block(
                    channels, width, emb, "enc", attention=res in attn_resolutions, **block
                )
                channels = width
                skips.append(channels)
        for level, (res, width) in reversed(list(enumerate(zip(resolutions, widths, strict=True)))):
            if level == len(widths) - 1:
                self.dec[f"{res}x{res}_in0"] = Block(channels, channels, emb, "dec", attention=True, **block)
                self.dec[f"{res}x{res}_in1"] = Block(channels, channels, emb, "dec", **block)
            else:
                self.dec[f"{res}x{res}_up"] = Block(
                    channels, channels, emb, "dec", resample_mode="up", **block
                )
            for index in range(num_blocks + 1):
                self.dec[f"{res}x{res}_block{index}"] = Block(
                    channels + skips.pop(), width, emb, "dec", attention=res in attn_resolutions, **block
                )
                channels = width
        self.out_conv = MPConv(channels, img_channels, 3)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The raw output ``[N, C, H, W]`` in the type of ``x``.

        Args:
            x: scaled noisy images ``[N, C, H, W]``.
            noise_labels: ``ln(sigma) / 4``, ``[1]`` or ``[N]`` float32.
            class_labels: one-hot ``[1 or N, label_dim]``, ``None`` for an unconditional network.
        """
        emb = self.emb_noise(self.emb_fourier(noise_labels))
        if self.emb_label is not None and class_labels is not None:
            unit = class_labels * self.emb_label.in_channels**0.5  # one-hot rows of unit magnitude
            emb = mp_sum(emb, self.emb_label(unit), self.label_balance)
        emb = mp_silu(emb)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)  # in place of biases
        skips = []
        for layer in self.enc.values():
            x = layer(x) if isinstance(layer, MPConv) else layer(x, emb)
            skips.append(x)
        for name, block in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), self.concat_balance)
            x = block(x, emb)
        return self.out_conv(x, self.out_gain)


class EDM2Precond(Denoiser):
    """EDM2's denoiser: EDM's preconditioning (Karras et al. 2022, Table 1) around ``EDM2UNet``.

    Skip-Tuning multiplies the skip ``d_i`` only: a decoder block gets ``[w_u u_i, w_d d_i]`` from ``mp_cat``,
    and ``rho_i`` acts on the part ``w_d d_i``. The weights depend on the widths alone, so this equals scaling
    ``d_i`` before the concatenation; they are not recomputed to restore unit magnitude, which would also
    change the part of ``u_i``.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        use_fp16: bool = True,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        **unet: Any,
    ):
        super().__init__((img_channels, img_resolution, img_resolution), label_dim)
        self.use_fp16, self.sigma_data = use_fp16, sigma_data
        self.unet = EDM2UNet(img_resolution, img_channels, label_dim, **unet)
        self.logvar_fourier = MPFourier(logvar_channels)
        self.logvar_linear = MPConv(logvar_channels, 1)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        total = sigma**2 + self.sigma_data**2
        # Half precision only where it is fast, as in EDM.
        dtype = torch.float16 if self.use_fp16 and x.device.type == "cuda" else torch.float32
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        c_in, c_noise = 1 / total.sqrt(), sigma.flatten().log() / 4
        raw = self.unet((c_in * x).to(dtype), c_noise, condition, **options)
        return c_skip * x + c_out * raw.to(torch.float32)

    def logvar(self, sigma: Tensor) -> Tensor:
        """Uncertainty ``u(sigma)`` of the loss (eq. 21): ``[]`` or ``[N]`` to ``[1 or N, 1, 1, 1]``."""
        noise_labels = torch.as_tensor(sigma).to(torch.float32).reshape(-1).log() / 4
        return self.logvar_linear(self.logvar_fourier(noise_labels)).reshape(-1, 1, 1, 1)
