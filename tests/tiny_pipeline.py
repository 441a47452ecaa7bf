"""A text-to-image pipeline of diffusers, of a few thousand parameters, with the words of single letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def tiny_pipeline(folder: Path, xl: bool) -> Any:
    """Stable Diffusion's pipeline, or SDXL's, with random weights; saved to the folder."""
    import diffusers
    import transformers

    folder.mkdir()
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    tokenizer = transformers.CLIPTokenizer(*files, model_max_length=16)
    settings = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=12, intermediate_size=16, num_hidden_layers=2, projection_dim=6,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    more: dict[str, Any] = {}
    if xl:
        more = {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + 6,
        }  # fmt: skip
    parts: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        "unet": diffusers.UNet2DConditionModel(
            8, 4, 4, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=4,
            cross_attention_dim=24 if xl else 12, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **more,
        ),
        "text_encoder": transformers.CLIPTextModel(settings).eval(),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
    }  # fmt: skip
    if xl:
        second = transformers.CLIPTextModelWithProjection(settings).eval()
        pipe = diffusers.StableDiffusionXLPipeline(
            **parts, text_encoder_2=second, tokenizer_2=tokenizer, add_watermarker=False
        )
    else:
        pipe = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return pipe
