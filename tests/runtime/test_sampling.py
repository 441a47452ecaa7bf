"""A chunk of images: what names it, what its bits depend on, what stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from torch._dynamo.utils import counters

from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.runtime import generation
from skiptune.runtime.files import digest
from skiptune.runtime.sampling import IMAGES_KEPT, SamplingSettings
from skiptune.runtime.seed_chunks import SeedChunk, open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import one_thread
from skiptune.samplers import make_sampler

ROOT = Path(__file__).resolve().parents[2]

# Another micro-batch may round otherwise in every network call. Where this was written no bit differed (16, 5
# and 1 images a call, also after 9 steps); elsewhere some pixels may fall on the other side of a rounding to
# uint8, and move the features a little.
FEATURES_TOLERANCE = 1e-2  # of the largest feature
PIXELS_TOLERANCE = 1e-3  # share of the pixels, which differ by one level


def compute_chunk(settings: SamplingSettings, seeds: range) -> dict[str, torch.Tensor]:
    return settings.compute(seeds)


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def settings() -> SamplingSettings:
    """One Euler step of the desk's network on glyphs."""
    model = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    return SamplingSettings(
        model=resolve_model(model, ROOT),
        sampler={"name": "euler", "steps": 1},
        intervention={"name": "none"},
        features=ExtractorRef.resolve({"name": "glyphs_cnn", "kind": "desk"}),
    )


def skip_tuning(settings: SamplingSettings, **rho: Any) -> SamplingSettings:
    return replace(settings, intervention={"name": "skip_tuning", **rho})


def test_an_image_does_not_depend_on_the_others_asked_for(settings: SamplingSettings) -> None:
    both, second = compute_chunk(settings, range(250)), compute_chunk(settings, range(125, 250))
    for name in ("features", "logits", "labels"):
        assert torch.equal(both[name][125:], second[name])
    other = compute_chunk(settings, range(250, 260))
    assert not torch.equal(both["features"][:10], other["features"])
    assert both["features"].shape == (250, 64) and both["logits"].shape == (250, 26)
    assert both["images"].shape == (IMAGES_KEPT, 3, 16, 16) and both["images"].dtype == torch.uint8
    assert both["labels"].shape == (250,) and 0 <= int(both["labels"].min()) <= int(both["labels"].max()) < 26


def test_another_micro_batch_agrees_within_the_stated_tolerance(settings: SamplingSettings) -> None:
    settings = replace(skip_tuning(settings, rho_bottom=0.8), sampler={"name": "euler", "steps": 3})
    one = compute_chunk(replace(settings, micro_batch=16), range(16))
    two = compute_chunk(replace(settings, micro_batch=5), range(16))
    assert torch.equal(one["labels"], two["labels"])
    scale = one["features"].abs().max()
    assert (one["features"] - two["features"]).abs().max() <= FEATURES_TOLERANCE * scale
    pixels = one["images"].int() - two["images"].int()
    assert pixels.abs().max() <= 1
    assert (pixels != 0).double().mean() <= PIXELS_TOLERANCE


@pytest.mark.parametrize(("name", "steps", "nfe"), [("heun", 2, 3), ("unipc", 2, 2), ("euler", 2, 2)])
@pytest.mark.parametrize("rho", [None, 0.8])
def test_nfe_is_measured(
    settings: SamplingSettings, name: str, steps: int, nfe: int, rho: float | None
) -> None:
    settings = replace(settings, sampler={"name": name, "steps": steps}, micro_batch=2)
    if rho is not None:
        settings = skip_tuning(settings, rho_bottom=rho)
    assert float(compute_chunk(settings, range(4))["nfe"]) == nfe


def test_intervention_acts_and_leaves_the_network_as_it_was(settings: SamplingSettings) -> None:
    before = compute_chunk(settings, range(4))["features"]
    assert not torch.equal(compute_chunk(skip_tuning(settings, rho_bottom=0.7), range(4))["features"], before)
    assert torch.equal(compute_chunk(skip_tuning(settings, rho_bottom=1.0), range(4))["features"], before)
    assert torch.equal(compute_chunk(settings, range(4))["features"], before)


def test_a_run_is_named_by_what_determines_its_bits(
    settings: SamplingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(settings: SamplingSettings) -> str:
        return open_run(settings, RunStore(tmp_path)).id

    same = [
        settings,
        skip_tuning(settings, rho_bottom=1),
        skip_tuning(settings, rho_bottom=1.0, place="residual"),
        replace(settings, sampler={"steps": 1, "name": "euler", "sigma_max": 80, "rho": 7.0}),
        replace(settings, model=replace(settings.model, path=tmp_path / "elsewhere.safetensors")),
        replace(settings, features=replace(settings.features, weights=tmp_path / "elsewhere.pth")),
    ]
    assert len({identity(s) for s in same}) == 1
    others = [
        skip_tuning(settings, rho_bottom=0.8),
        skip_tuning(settings, rho_bottom=0.8, rho_top=0.9),
        replace(settings, sampler={"name": "euler", "steps": 2}),
        replace(settings, sampler={"name": "euler", "steps": 1, "sigma_max": 40.0}),
        replace(settings, sampler={"name": "unipc", "steps": 1}),
        replace(settings, model=replace(settings.model, sha256="0" * 64)),
        replace(settings, features=replace(settings.features, sha256="0" * 64)),
        replace(settings, micro_batch=100),
        replace(settings, device="cuda"),
        replace(settings, noise_device="cuda"),
        replace(settings, compile=True),
    ]
    assert len({identity(s) for s in [settings, *others]}) == 1 + len(others)
    name = identity(settings)
    monkeypatch.setattr(generation, "NUMERICS", generation.NUMERICS + 1)
    assert identity(settings) != name
    assert not list(tmp_path.iterdir())  # naming writes nothing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": {"name": "euler", "steps": 1, "speed": 2}}, "euler has no setting speed"),
        ({"sampler": {"name": "euler"}}, "needs the setting steps"),
        ({"sampler": {"name": "dpm", "steps": 1}}, "unknown sampler 'dpm'"),
        ({"sampler": {"steps": 1}}, "unknown sampler ''"),
        ({"sampler": {"name": "heun", "steps": 2.0}}, "sampler.steps is 2.0, it must be a whole number"),
        ({"sampler": {"name": "euler", "steps": 1, "grid": None}}, "sampler.grid is None, it must be a name"),
        (
            {"sampler": {"name": "unipc", "steps": 1, "corrector": 1}},
            "sampler.corrector is 1, it must be true",
        ),
        ({"intervention": {"name": "skip_tuning", "rho": 0.5}}, "skip_tuning has no setting rho"),
        ({"intervention": {"name": "dropout"}}, "unknown intervention 'dropout'"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"noise_device": "tpu"}, "unknown noise_device 'tpu'"),
        ({"compile": "yes"}, "compile is 'yes', it must be true or false"),
    ],
)
def test_unknown_settings_are_refused(
    settings: SamplingSettings, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        replace(settings, **change).resolved()
    assert "\n" not in str(caught.value)


def poisoned(model: ModelRef, folder: Path) -> ModelRef:
    """The same network with one NaN in one of its tensors."""
    state = load_file(model.path)
    name = next(name for name, value in state.items() if value.dtype == torch.float16 and value.ndim == 4)
    state[name].view(-1)[0] = torch.nan
    content = save(state, metadata={"denoiser": model.description})
    path = folder / model.path.name
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest(content)}))
    return replace(model, path=path, sha256=digest(content))


def test_nan_from_the_network_stops_the_chunk(settings: SamplingSettings, tmp_path: Path) -> None:
    settings = replace(settings, model=poisoned(settings.model, tmp_path))
    run = open_run(settings, RunStore(tmp_path / "store"))
    with pytest.raises(
        SkiptuneError, match="125 of 125 images contain NaN or infinity .first seed 500."
    ) as caught:
        SeedChunk(run, settings, 2)()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_weights_changed_since_they_were_named(settings: SamplingSettings, tmp_path: Path) -> None:
    model = poisoned(settings.model, tmp_path)
    with pytest.raises(SkiptuneError, match="changed while the run was going on"):
        compute_chunk(replace(settings, model=replace(model, sha256=settings.model.sha256)), range(2))
    model.path.write_bytes(model.path.read_bytes()[:-1])
    with pytest.raises(SkiptuneError, match="sha256 of its record"):
        compute_chunk(replace(settings, model=model), range(2))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_images_are_those_of_the_plain_network(settings: SamplingSettings) -> None:
    counters.clear()
    model = yaml.safe_load((ROOT / "configs/model/ddim1_digits.yaml").read_text())
    features = ExtractorRef.resolve({"name": "digits_cnn", "kind": "desk"})
    small = replace(settings, model=resolve_model(model, ROOT), features=features)
    pairs = [(one, replace(one, compile=True)) for one in (small, skip_tuning(small, rho_bottom=0.5))]
    plain, compiled = zip(
        *((compute_chunk(a, range(4)), compute_chunk(b, range(4))) for a, b in pairs), strict=True
    )
    for one, other in zip(plain, compiled, strict=True):
        apart = (one["images"].int() - other["images"].int()).abs()
        assert apart.max() <= 1 and (apart > 0).float().mean() < PIXELS_TOLERANCE
    assert not torch.equal(compiled[0]["images"], compiled[1]["images"])
    assert counters["stats"]["unique_graphs"] > 0  # not plain networks
    torch.compiler.reset()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_noise_of_a_gpu_that_is_not_there(settings: SamplingSettings) -> None:
    with pytest.raises(SkiptuneError, match="torch sees no GPU"):
        compute_chunk(replace(settings, noise_device="cuda"), range(2))


def test_latents_are_decoded_and_guidance_counts_twice() -> None:
    network = {
        "class": "LatentUNet",
        "kwargs": {
            "image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 3, "num_res_blocks": 1,
            "attention_resolutions": [2], "channel_mult": [1, 1], "num_heads": 1, "context_dim": 8,
            "use_spatial_transformer": True,
        },
    }  # fmt: skip
    autoencoder = {
        "embed_dim": 3, "n_embed": 16,
        "ddconfig": {
            "double_z": False, "z_channels": 3, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32,
            "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    denoiser = build_denoiser(
        {
            "class": "DiscreteDenoiser",
            "kwargs": {
                "network": network,
                "image_shape": [3, 8, 8],
                "schedule": {"kind": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
                "num_classes": 5,
                "class_tokens": 8,
            },
            "guidance": {"scale": 1.5, "null": 4},
            "autoencoder": {"class": "VQAutoencoder", "kwargs": autoencoder},
        }
    ).eval()
    sampler = make_sampler("ddim", steps=4)
    ((images, calls),), labels = generation.sample_images(denoiser, sampler, [{"name": "none"}], range(3))
    assert images.shape == (3, 3, 16, 16) and calls == denoiser.nfe == 8
    assert labels is not None and int(labels.max()) < 4
