"""Prompts as inputs of a Stable Diffusion's network: its folder's own tokenizers and text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.building.diffusers_parts import library
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import read_json

XL = "StableDiffusionXLPipeline"
PIPELINES = ("StableDiffusionPipeline", XL)


@torch.no_grad()
def prompt_inputs(
    folder: Path | str, prompts: Sequence[str | None], latent_size: int | None = None
) -> dict[str, Tensor]:
    """Inputs of the network for each prompt, float32 on the CPU; as the pipelines of diffusers make them.

    ``context`` ``[N, L, D]``; for SDXL also ``text_embeds`` ``[N, E]`` and ``time_ids`` ``[N, 6]`` (original
    size, no crop, target size: those the U-Net was trained with, or of latents of ``latent_size``). ``None``
    is the pipeline's "no prompt" of guidance: the empty text, or zeros where its model_index.json says
    force_zeros_for_empty_prompt.

    Raises:
        SkiptuneError: transformers is not installed, or no such pipeline.
    """
    folder = Path(folder)
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise SkiptuneError(f"{folder} is a {kind}; prompts are known for {', '.join(PIPELINES)}")
    texts = ["" if prompt is None else prompt for prompt in prompts]
    first = encode(folder, "", texts)
    if kind != XL:
        return {"context": first.last_hidden_state}
    second = encode(folder, "_2", texts)
    # SDXL takes the layer before the last of both, and the second's projection of the whole text.
    context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    pooled = second.text_embeds
    if index.get("force_zeros_for_empty_prompt"):
        kept = torch.tensor([prompt is not None for prompt in prompts])
        context, pooled = context * kept[:, None, None], pooled * kept[:, None]
    size = float(pixels(folder, latent_size))
    ids = torch.tensor([[size, size, 0.0, 0.0, size, size]]).expand(len(texts), -1)
    return {"context": context, "text_embeds": pooled, "time_ids": ids}


def encode(folder: Path, suffix: str, texts: Sequence[str]) -> Any:
    """What the text encoder of this suffix makes of the texts. Raises SkiptuneError: none to be loaded."""
    tokenizer, encoder = text_encoder(folder, suffix)
    tokens = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )  # fmt: skip
    return encoder(tokens.input_ids, output_hidden_states=True)


@lru_cache(maxsize=2)  # SDXL has two
def text_encoder(folder: Path, suffix: str) -> tuple[Any, Any]:
    """A folder's tokenizer and text encoder of this suffix, float32 on the CPU, loaded once in a process."""
    transformers = library("transformers", folder)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(
            str(folder / f"tokenizer{suffix}"), local_files_only=True
        )
        source = folder / f"text_encoder{suffix}"
        name = read_json(source / "config.json")["architectures"][0]
        plain = any("." not in path.stem for path in source.glob("*.safetensors"))
        encoder = getattr(transformers, name).from_pretrained(
            str(source), local_files_only=True, variant=None if plain else "fp16", dtype=torch.float32
        )
    except (OSError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SkiptuneError(f"cannot load the text encoder{suffix} of {folder} ({reason})") from error
    return tokenizer, encoder.eval()


def pixels(folder: Path, latent_size: int | None = None) -> int:
    """Side of the images of latents of that size, else of those that the U-Net was trained with."""
    levels = len(read_json(folder / "vae/config.json")["block_out_channels"])
    size = latent_size or read_json(folder / "unet/config.json")["sample_size"]
    return int(size * 2 ** (levels - 1))
