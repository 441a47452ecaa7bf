"""Unmodified diffusers pipelines with weighted and skipped blocks, next to FreeU and Skip-Tuning."""

import pytest
import torch
from tiny_diffusers import tiny_unet

from skiptune.interventions import (
    AttentionPruning,
    BlockReweighting,
    SkipTuning,
    find_transformer_blocks,
    skipping,
)

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipe(request):
    """Without text encoders and autoencoder: prompts are given as tokens, images returned as latents."""
    unet = tiny_unet(diffusers, request.param).float()
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1, timestep_spacing="trailing")
    missing = {"vae": None, "text_encoder": None, "tokenizer": None}
    if request.param == "sd":
        made = diffusers.StableDiffusionPipeline(
            unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False, **missing,
        )  # fmt: skip
    else:
        made = diffusers.StableDiffusionXLPipeline(
            unet=unet, scheduler=scheduler, text_encoder_2=None, tokenizer_2=None,
            add_watermarker=False, **missing,
        )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def picture(pipe, guidance=5.0):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 12, generator=generator)
    named = {"prompt_embeds": tokens[:1], "negative_prompt_embeds": tokens[1:]}
    if "XL" in type(pipe).__name__:
        pooled = torch.randn(2, 6, generator=generator)
        named |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
    return pipe(
        **named, generator=generator, num_inference_steps=2, guidance_scale=guidance, height=64, width=64,
        output_type="latent", num_images_per_prompt=2,
    ).images  # fmt: skip


def test_pipeline(pipe):
    unet = pipe.unet
    blocks = find_transformer_blocks(unet)
    untouched = picture(pipe)
    pipe.scheduler.set_timesteps(2)
    times = tuple(float(t) for t in pipe.scheduler.timesteps)
    ones = torch.ones(len(blocks))
    up = ones.clone()
    up[1] = 1.1

    def weighted(*rows, guidance=5.0):
        table = torch.stack(rows)
        levels = times if len(rows) > 1 else ()
        with BlockReweighting(table, levels).attached_to(unet, lambda t: t):
            return picture(pipe, guidance)

    assert torch.equal(weighted(ones), untouched) and torch.equal(weighted(ones, ones), untouched)
    static = weighted(up)
    assert torch.equal(weighted(up, up), static)
    first, second = weighted(up, ones), weighted(ones, up)
    differing = [untouched, static, first, second]
    assert all(not torch.equal(a, b) for i, a in enumerate(differing) for b in differing[:i])
    # Two images of the prompt: the weights of one do not touch the other, under guidance and without.
    for guidance in (5.0, 0.0):
        rows = torch.stack([ones, up])[None]
        with BlockReweighting(rows).attached_to(unet):
            mixed = picture(pipe, guidance)
        assert torch.equal(mixed[0], picture(pipe, guidance)[0])
        torch.testing.assert_close(mixed[1], weighted(up, guidance=guidance)[1], rtol=1e-4, atol=1e-4)
    mask = skipping(blocks, [[blocks[0].number], [3]])
    with AttentionPruning(mask, times).attached_to(unet, lambda t: t) as count:
        assert not torch.equal(picture(pipe), untouched)
    assert count.skipped == count.computed  # one transformer is in each block; each is skipped at one step
    with SkipTuning.interpolated(0.8).attached_to(unet):
        tuned = picture(pipe)
        pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6)
        both = picture(pipe)
        all_three = weighted(up)
        pipe.disable_freeu()
    assert not torch.equal(tuned, both) and not torch.equal(all_three, both)
    assert torch.equal(picture(pipe), untouched)
