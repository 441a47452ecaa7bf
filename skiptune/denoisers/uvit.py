"""U-ViT: a vision transformer with long skip connections, which predicts the noise of (latent) images.

Bao et al. 2023, "All are Worth Words: A ViT Backbone for Diffusion Models". Arguments, parameter names and
shapes are those of ``UViT`` in baofff/U-ViT; ``use_checkpoint`` (memory in training) changes no number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.denoisers.guided_layers import timestep_embedding
from skiptune.errors import SkiptuneError


class Attention(nn.Module):
    """Self-attention of tokens; channels of ``qkv`` are ordered (q|k|v, head, channel)."""

    def __init__(self, width: int, heads: int, qkv_bias: bool, qk_scale: float | None):
        super().__init__()
        self.heads, self.scale = heads, qk_scale or None  # None: one over the root of a head's width
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # Fused kernels want the channels of a head side by side; other strides fall back to a slow path.
        split = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = split.unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers on every token, with the exact GELU between them."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Transformer block; in the decoder ``skip_linear`` first joins the tokens with those of the skip.

    Nothing normalises the concatenation ``[x, skip]`` (channels last) before ``skip_linear``, so scaling the
    skip acts linearly there.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        skip: bool = False,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias, qk_scale)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """``x`` and ``skip`` are ``[N, L, C]``."""
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Images ``[N, C, H, W]`` to one token per patch ``[N, L, width]``, row by row."""

    def __init__(self, patch_size: int, channels: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class UViT(nn.Module):
    """``depth // 2`` encoder blocks, one in the middle, and as many decoder blocks that take their skips.

    The tokens are the class label (in a conditional network), the time, then the patches.

    Args:
        num_classes: number of class embeddings, a null class for guidance included; -1 for none.
        mlp_time_embed: put two linear layers on the time embedding.
        conv: end with a 3x3 convolution.
        skip: whether there are long skips at all.

    Raises:
        SkiptuneError: a width that the heads, or an image that the patches do not divide.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        use_checkpoint: bool = False,
        conv: bool = True,
        skip: bool = True,
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise SkiptuneError(f"embed_dim {embed_dim} cannot be split into {num_heads} attention heads")
        if img_size % patch_size:
            raise SkiptuneError(f"img_size {img_size} is no multiple of patch_size {patch_size}")
        self.img_size, self.patch_size, self.in_chans = img_size, patch_size, in_chans
        self.embed_dim, self.num_classes = embed_dim, max(num_classes, 0)

        def block(skip: bool = False) -> Block:
            return Block(embed_dim, num_heads, mlp_ratio, qkv_bias, qk_scale, skip)

        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.time_embed = nn.Sequential()
        if mlp_time_embed:
            inner = 4 * embed_dim
            self.time_embed.extend([nn.Linear(embed_dim, inner), nn.SiLU(), nn.Linear(inner, embed_dim)])
        if self.num_classes:
            self.label_emb = nn.Embedding(num_classes, embed_dim)
        self.extras = 2 if self.num_classes else 1
        tokens = self.extras + (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, embed_dim), std=0.02))
        self.in_blocks = nn.ModuleList([block() for _ in range(depth // 2)])
        self.mid_block = block()
        self.out_blocks = nn.ModuleList([block(skip) for _ in range(depth // 2)])
        self.norm = nn.LayerNorm(embed_dim)
        self.decoder_pred = nn.Linear(embed_dim, patch_size**2 * in_chans)
        self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1) if conv else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise ``[N, C, H, W]``.

        Args:
            x: noisy images ``[N, C, H, W]`` of variance-preserving diffusion.
            t: time, ``[1]`` or ``[N]``, whole or fractional; the discrete-time checkpoints count it from 1.
            condition: one-hot labels ``[1 or N, num_classes]`` or label numbers ``[1 or N]``.

        Raises:
            SkiptuneError: images of another size, or no labels for a conditional network.
        """
        if x.shape[1:] != (self.in_chans, self.img_size, self.img_size):
            expected = f"[N, {self.in_chans}, {self.img_size}, {self.img_size}]"
            raise SkiptuneError(f"images have shape {list(x.shape)}, this U-ViT takes {expected}")
        time = self.time_embed(timestep_embedding(t.reshape(-1), self.embed_dim))
        extras = [self.label_embedding(condition), time] if self.num_classes else [time]
        patches = self.patch_embed(x)
        rows = [token[:, None].to(patches.dtype).expand(len(x), -1, -1) for token in extras]
        tokens = torch.cat([*rows, patches], dim=1) + self.pos_embed
        skips = []
        for block in self.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = self.mid_block(tokens)
        for block in self.out_blocks:
            tokens = block(tokens, skips.pop())
        patches = self.decoder_pred(self.norm(tokens[:, self.extras :]))
        return self.final_layer(self.unpatchify(patches))

    def label_embedding(self, condition: Tensor | None) -> Tensor:
        """``[N, embed_dim]``."""
        if condition is None:
            raise SkiptuneError(
                f"this U-ViT is class-conditional: give it labels, one-hot [N, {self.num_classes}]"
            )
        if condition.dim() == 1:
            return self.label_emb(condition)
        return condition.to(self.label_emb.weight.dtype) @ self.label_emb.weight

    def unpatchify(self, patches: Tensor) -> Tensor:
        """``[N, L, row * column * channel]`` to images; patches lie row by row."""
        side, size = self.img_size // self.patch_size, self.patch_size
        grid = patches.unflatten(2, (size, size, self.in_chans)).unflatten(1, (side, side))
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.in_chans, self.img_size, self.img_size)
