"""Images as files: those of diffusers' pipelines from equal noise and prompts; a folder has one maker."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny_pipeline import tiny_pipeline

from skiptune.checkpoints.models import resolve_model
from skiptune.data.folder import FolderImages
from skiptune.errors import SkiptuneError
from skiptune.runtime.claims import claiming
from skiptune.runtime.generation import Generation
from skiptune.runtime.image_files import ImageFiles
from skiptune.runtime.prompted import Guidance
from skiptune.samplers import initial_noise

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ("a red fox", "no dog")
FREEU = {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}


@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
@pytest.mark.parametrize("freeu", [False, True], ids=["plain", "FreeU"])
def test_images_of_prompts_are_those_of_the_pipeline(tmp_path: Path, xl: bool, freeu: bool) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
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
    assert [batch() for batch in files.batches()] == [2, 1]
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


def desk_files(folder: Path, steps: int) -> ImageFiles:
    model = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    made = Generation(
        model=resolve_model(model, ROOT),
        sampler={"name": "euler", "steps": steps},
        intervention={"name": "none"},
        micro_batch=2,
    )
    return ImageFiles(generation=made, seeds=(0, 1, 2, 3), folder=folder)


def test_of_two_settings_that_start_together_one_has_the_folder(tmp_path: Path) -> None:
    for turn in range(4):
        several = [desk_files(tmp_path / str(turn), steps) for steps in (1, 2)]
        together = threading.Barrier(2)

        def begun(files: ImageFiles, together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                files.begin()
            except SkiptuneError as error:
                assert "holds images with another sampler" in str(error)
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(begun, several)) == [False, True]


def test_equal_calls_divide_the_images(tmp_path: Path) -> None:
    first, second = desk_files(tmp_path, 1), desk_files(tmp_path, 1)
    mine, *_ = first.batches()
    with claiming(mine.paths):
        assert [batch() for batch in second.batches()] == [0, 2]
    assert [batch.missing() for batch in second.batches()] == [mine, None]
    assert mine() == 2
    assert first.there() == second.there() == 4


def test_images_lie_beside_the_record_that_they_were_made_with(tmp_path: Path) -> None:
    here, there = desk_files(tmp_path, 1), desk_files(tmp_path, 2)
    here.check()
    there.check()  # nobody has the folder yet
    assert there.batches()[0]() == 2
    with pytest.raises(SkiptuneError, match="holds images with another sampler"):
        here.batches()[1]()  # it began before the other had an image
    assert there.there() == 2 and json.loads(there.record.read_text())["made_with"]["sampler"]["steps"] == 2
    there.record.unlink()
    for files in (here, there):
        with pytest.raises(SkiptuneError, match="holds numbered PNG files but no sampling.json"):
            files.check()


def test_images_that_came_meanwhile_are_listed_too(tmp_path: Path) -> None:
    files = desk_files(tmp_path, 1)
    early, late = files.batches()
    early()

    @dataclass(frozen=True, kw_only=True)
    class Slow(ImageFiles):
        def about(self, name: str) -> dict[str, str]:
            late()
            return super().about(name)

    Slow(generation=files.generation, seeds=early.files.seeds, folder=tmp_path).finish()
    assert len(json.loads((tmp_path / "dataset.json").read_text())["labels"]) == 4


def test_a_picture_that_another_program_has_saved_is_named(tmp_path: Path) -> None:
    files = desk_files(tmp_path, 1)
    assert [batch() for batch in files.batches()] == [2, 2]
    picture = files.path(3)
    with Image.open(picture) as image:
        image.copy().save(picture)
    with pytest.raises(SkiptuneError, match="000003.png is not as it was made: delete it"):
        files.finish()
