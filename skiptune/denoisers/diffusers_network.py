"""Networks of the diffusers library in the house's calling convention, and denoisers of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.guidance import Wrapper
from skiptune.errors import SkiptuneError

Inputs = Mapping[str, Tensor]
# What an embedding of this kind needs besides the prompt's tokens.
ADDED = {"text_time": ("text_embeds", "time_ids")}


class OneHotEmbedding(nn.Embedding):
    """An embedding that is given one-hot rows ``[N, K]``; a row of zeros adds nothing."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.to(self.weight.dtype) @ self.weight


class DiffusersNetwork(nn.Module):
    """A ``UNet2DModel`` or ``UNet2DConditionModel`` as ``network(x, t, condition, context, **added)``.

    It computes in the type of its weights and returns float32. The U-Net is kept as ``unet``, where skip
    sites are found; its class embedding, if any, is made to take one-hot rows.

    Raises:
        SkiptuneError: a class embedding of something else than labels, or an added embedding that is unknown.
    """

    def __init__(self, unet: nn.Module):
        super().__init__()
        config: Any = unet.config
        self.num_classes = int(config.get("num_class_embeds") or 0)
        self.with_context = config.get("cross_attention_dim") is not None
        kind = config.get("addition_embed_type")
        embedding = getattr(unet, "class_embedding", None)
        if kind is not None and kind not in ADDED:
            raise SkiptuneError(
                f"the U-Net has an added embedding {kind!r}; only {', '.join(ADDED)} is known"
            )
        if embedding is not None:
            if not isinstance(embedding, nn.Embedding):
                raise SkiptuneError(
                    f"the U-Net embeds {config.get('class_embed_type') or 'something'} as class, not labels"
                )
            weight = embedding.weight
            rows = OneHotEmbedding(weight.shape[0], weight.shape[1], _weight=weight)
            unet.class_embedding = rows.train(embedding.training)
            rows.weight = weight  # the same parameter, as it was
        self.added = ADDED.get(str(kind), ())
        self.unet = unet

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        context: Tensor | None = None,
        **added: Tensor | None,
    ) -> Tensor:
        """The prediction ``[N, C, H, W]`` float32.

        Args:
            x: ``[N, C, H, W]``.
            t: times ``[]`` or ``[N]``, also fractional.
            condition: one-hot labels ``[1 or N, K]``; ``None`` and zeros add no class embedding.
            context: tokens of the prompts ``[1 or N, L, D]``.
            added: further inputs, ``[1 or N, ...]``: SDXL's ``text_embeds`` and ``time_ids``.

        Raises:
            SkiptuneError: an input that the network needs, or does not know.
        """
        dtype, count = next(self.unet.parameters()).dtype, x.shape[0]
        self.refuse(context, added)
        inputs: dict[str, Any] = {}
        if self.num_classes:
            rows = x.new_zeros(1, self.num_classes) if condition is None else condition
            inputs["class_labels"] = rows.expand(count, -1)
        if context is not None:
            inputs["encoder_hidden_states"] = rowwise(context, count).to(dtype)
        if self.added:
            given = {key: value for key, value in added.items() if value is not None}
            inputs["added_cond_kwargs"] = {key: rowwise(value, count) for key, value in given.items()}
            inputs["added_cond_kwargs"]["text_embeds"] = inputs["added_cond_kwargs"]["text_embeds"].to(dtype)
        return self.unet(x.to(dtype), t, **inputs).sample.to(torch.float32)

    def refuse(self, context: Tensor | None, added: Mapping[str, Tensor | None]) -> None:
        """One line where inputs are missing or surplus."""
        wanted = {"context"} if self.with_context else set()
        wanted |= set(self.added)
        given = {key for key, value in {**added, "context": context}.items() if value is not None}
        if missing := sorted(wanted - given):
            raise SkiptuneError(f"the network is conditioned on text: give prompts ({', '.join(missing)})")
        if surplus := sorted(given - wanted):
            raise SkiptuneError(f"the network takes no {', '.join(surplus)}")


class DiffusersAutoencoder(nn.Module):
    """An ``AutoencoderKL`` of diffusers; latents are the mean, less the shift if its settings have one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        config: Any = model.config
        if config.get("latents_mean") is not None or config.get("latents_std") is not None:
            raise SkiptuneError("an autoencoder that normalises every latent channel is not supported")
        self.model = model
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[N, 3, H, W]`` in [-1, 1] -> latents ``[N, C, h, w]``, not scaled."""
        model: Any = self.model
        return model.encode(images).latent_dist.mode() - self.shift

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[N, C, h, w]``, not scaled -> images ``[N, 3, H, W]``, about [-1, 1]."""
        model: Any = self.model
        return model.decode(latents + self.shift).sample


class Prompted(Wrapper):
    """A denoiser with its prompt fixed, guided away from ``nothing`` (Ho & Salimans 2022).

    ``D = D_nothing + scale (D_prompt - D_nothing)``, from one doubled batch that counts as two evaluations;
    ``scale`` 1 is the prompt alone, for one. diffusers' ``guidance_scale`` is this scale.

    Args:
        prompt: inputs of the network, ``[1 or N, ...]``: ``context``, and SDXL's ``text_embeds`` and
            ``time_ids``.
        nothing: the same inputs without a prompt; needed unless the scale is 1.

    Raises:
        SkiptuneError: guidance without ``nothing``, or with other inputs in it.
    """

    def __init__(self, model: Denoiser, prompt: Inputs, nothing: Inputs | None = None, scale: float = 1.0):
        if scale != 1 and (nothing is None or set(nothing) != set(prompt)):
            raise SkiptuneError(f"guidance {scale} needs {', '.join(prompt)} of no prompt as well")
        super().__init__(model)
        self.scale, self.names = scale, tuple(prompt)
        for name in self.names:  # buffers move with the network, and are no part of its weights
            self.register_buffer(f"prompt_{name}", prompt[name], persistent=False)
            if nothing is not None and scale != 1:
                self.register_buffer(f"nothing_{name}", nothing[name], persistent=False)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        count = x.shape[0]
        prompt = {name: rowwise(self.get_buffer(f"prompt_{name}"), count) for name in self.names}
        if self.scale == 1:
            return self.evaluate(self.model, x, sigma, condition, {**options, **prompt})
        nothing = {name: rowwise(self.get_buffer(f"nothing_{name}"), count) for name in self.names}
        twice = {name: torch.cat([nothing[name], prompt[name]]) for name in self.names}
        others = {
            name: None if value is None else torch.cat([rowwise(value, count)] * 2)
            for name, value in options.items()
        }
        levels = torch.cat([sigma.expand(count, 1, 1, 1)] * 2)
        labels = None if condition is None else torch.cat([rowwise(condition, count)] * 2)
        images = torch.cat([x, x])
        both = self.evaluate(self.model, images, levels, labels, {**others, **twice}, copies=2)
        without, with_prompt = both.chunk(2)
        return without + self.scale * (with_prompt - without)


def rowwise(value: Tensor, count: int) -> Tensor:
    """One row for every image; a single one is that of all.

    Raises:
        SkiptuneError: another number of rows.
    """
    if value.shape[0] not in (1, count):
        raise SkiptuneError(f"a prompt of {value.shape[0]} rows for {count} images: give 1 or {count}")
    return value.expand(count, *value.shape[1:])
