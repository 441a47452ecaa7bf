"""Images as files: those of diffusers' pipelines from equal noise and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_pipeline import tiny_pipeline

from skiptune.checkpoints.models import resolve_model
from skiptune.data.folder import FolderImages
from skiptune.runtime.generation import Generation
from skiptune.runtime.image_files import ImageFiles
from skiptune.runtime.prompted import Guidance
from skiptune.samplers import initial_noise

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

PROMPTS = ("a red fox", "no dog")
FREEU = {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}


@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
@pytest.mark.parametrize("freeu", [False, True], ids=["plain", "FreeU"])
def test_images_of_prompts_are_those_of_the_pipeline(tmp_path: Path, xl: bool, freeu: bool) -> None:
    pipe = tiny_pipeline(tmp_path / "pipeline", xl)
    model = {"name": "tiny", "kind": "diffusers", "dataset": "none", "file": "pipeline", "denoiser": {}}
    files = ImageFiles(
        generation=Generation(
            model=resolve_model(model, tmp_path),
            sampler={"name": "ddim", "steps": 5, "spacing": "leading", "offset": 1, "end": "first"},
            intervention={"name": "freeu", **FREEU} if freeu else {"name": "none"},
            micro_batch=2,
        ),
        seeds=(0, 1, 2),
        folder=tmp_path / "images",
        prompts=PROMPTS,
        guidance=Guidance(3.0),
    )
    files.begin()
    for batch in files.batches():
        batch()
    files.finish()
    found, _ = FolderImages(files.folder).batch(range(3), "reference")
    latents, _ = initial_noise((0, 1, 2), (4, 8, 8))
    options = {"num_inference_steps": 5, "guidance_scale": 3.0, "latents": latents, "output_type": "pt"}
    texts = [PROMPTS[i % 2] for i in range(3)]
    expected = pipe(texts, **options).images
    if freeu:
        plain = expected
        pipe.enable_freeu(**FREEU)
        expected = pipe(texts, **options).images
        assert (expected - plain).abs().max() > 0.02
    assert (expected[0] - expected[1]).abs().max() > 0.1  # noise and prompts matter
    assert (found / 255 - expected).abs().max() < 0.6 / 255  # half a step of 8 bits, and float32
