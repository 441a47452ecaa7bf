"""What a folder of the diffusers library is, and the denoiser that it becomes."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_pipeline import tiny_pipeline

from experiments.config_files import choices
from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.diffusers_folder import (
    alphas_cumprod,
    is_diffusers_folder,
    load_diffusers,
    load_port,
    report_folder,
)
from skiptune.checkpoints.building.load import load_official
from skiptune.checkpoints.building.prompts import prompt_inputs
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, Window

FOLDERS = {name: model for name, model in choices("model").items() if model["kind"] == "diffusers"}

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    unet = diffusers.UNet2DModel(
        16, 3, 3, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        report_folder(folder)
    assert "\n" not in str(caught.value)


def test_model(unet: Path) -> None:
    assert is_diffusers_folder(unet)
    lines = report_folder(unet)
    assert "class: UNet2DModel" in lines and "  block_out_channels: [32, 64]" in lines
    assert "skip connections: 4, 2 with equally many channels from both sides" in lines
    assert any(line.split()[:5] == ["0", "up_blocks.0.resnets.0", "8", "64", "64"] for line in lines)


def test_pipeline(unet: Path) -> None:
    folder = unet.parent
    (folder / "model_index.json").write_text("{}")
    (folder / "scheduler").mkdir()
    noise = {"prediction_type": "v_prediction", "beta_start": 0.00085}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(noise))
    assert is_diffusers_folder(folder)
    assert "noise: prediction_type v_prediction, beta_start 0.00085" in report_folder(folder)


def test_weights_of_another_network(unet: Path) -> None:
    path = unet / "diffusion_pytorch_model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    refused(unet, "its weights do not fit UNet2DModel: missing: .* more; surplus: a$")
    path.write_bytes(b"broken, and long enough")
    refused(unet, "safetensors is damaged")
    path.unlink()
    refused(unet, "holds no safetensors file")


def test_other_classes(unet: Path) -> None:
    (unet / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    refused(unet, "holds a AutoencoderKL, no U-Net of diffusers")
    (unet / "config.json").write_text("{")
    refused(unet, "is damaged, not JSON")


def save_scheduler(folder: Path, cls: str = "DDIMScheduler", **options: Any) -> Any:
    scheduler = getattr(diffusers, cls)(**options)
    scheduler.save_pretrained(folder / "scheduler")
    return scheduler


@pytest.fixture
def pipeline(tmp_path: Path) -> tuple[Path, Any]:
    """Stable Diffusion in small, its U-Net in half precision, and what diffusers loads of it."""
    folder = tmp_path / "stable"
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        8, 4, 4, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=12,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    unet.half().save_pretrained(folder / "unet", variant="fp16")
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, scaling_factor=0.13025,
    )  # fmt: skip
    vae.save_pretrained(folder / "vae")
    save_scheduler(folder, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder, (unet.float().eval().requires_grad_(False), vae.eval().requires_grad_(False))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_pipeline_becomes_a_denoiser(pipeline: tuple[Path, Any]) -> None:
    folder, (unet, vae) = pipeline
    ours = load_diffusers(folder)
    assert isinstance(ours, LatentDenoiser) and not ours.training and ours.image_shape == (4, 8, 8)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in ours.parameters())
    torch.manual_seed(1)
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    alphas = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod.double()
    sigma = (1 / alphas[500] - 1).sqrt()
    assert ours.sigma_max == pytest.approx(float((1 / alphas[-1] - 1).sqrt()), rel=1e-4)
    expected = x - sigma * unet(x / (1 + sigma**2).sqrt().float(), 500, context).sample
    torch.testing.assert_close(ours(x, sigma, context=context), expected.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.decode(x), vae.decode(x / 0.13025).sample)
    tuned = SkipTuning.interpolated(0.5, schedules=(Window(0.1, 5.0),))
    untouched = ours(x, sigma, context=context)
    with tuned.attached_to(ours):
        assert not torch.equal(ours(x, sigma, context=context), untouched)
        assert torch.isfinite(ours(x, torch.tensor(9.0), context=context)).all()


def test_weights_as_they_are_stored(pipeline: tuple[Path, Any]) -> None:
    ours = load_diffusers(pipeline[0], as_stored=True)
    types = {name.split(".")[0]: value.dtype for name, value in ours.named_parameters()}
    assert types == {"model": torch.float16, "autoencoder": torch.float32}
    assert load_diffusers(pipeline[0], latent_size=24).image_shape[1:] == (24, 24) != ours.image_shape[1:]


@pytest.mark.parametrize(
    "options",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.1, 0.2, 0.3]},
        {"beta_schedule": "scaled_linear", "num_train_timesteps": 50, "rescale_betas_zero_snr": True},
        {},
    ],
    ids=["cosine", "trained", "zero SNR", "defaults"],
)
def test_noise_levels_of_a_scheduler(tmp_path: Path, options: dict[str, Any]) -> None:
    scheduler = save_scheduler(tmp_path, **options)
    ours = alphas_cumprod(json.loads((tmp_path / "scheduler/scheduler_config.json").read_text()))
    torch.testing.assert_close(ours[:-1], scheduler.alphas_cumprod[:-1].double(), rtol=1e-3, atol=1e-6)
    assert ours[-1] > 0 and abs(float(ours[-1] - scheduler.alphas_cumprod[-1])) < 1e-5


def not_loaded(folder: Path, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        load_diffusers(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_mistakes_are_named(pipeline: tuple[Path, Any]) -> None:
    folder, _ = pipeline
    scheduler = folder / "scheduler/scheduler_config.json"
    edit(scheduler, prediction_type="sample")
    not_loaded(folder, "predicts sample; known are epsilon, v_prediction")
    edit(scheduler, prediction_type="epsilon", beta_schedule="sigmoid")
    not_loaded(folder, "unknown schedule 'sigmoid'")
    scheduler.write_text('{"_class_name": "EDMEulerScheduler"}')
    not_loaded(folder, "scheduler EDMEulerScheduler has no betas")
    scheduler.unlink()
    not_loaded(folder, "has no scheduler/scheduler_config.json, .* give a pipeline's folder")
    save_scheduler(folder)
    edit(folder / "vae/config.json", _class_name="AsymmetricAutoencoderKL")
    not_loaded(folder, "holds a AsymmetricAutoencoderKL, no autoencoder of diffusers that is known")
    edit(folder / "unet/config.json", in_channels=9)
    not_loaded(folder, "unet makes 4 channels of 9: it is given more than an image")
    edit(folder / "unet/config.json", in_channels="four")
    not_loaded(folder, "cannot build|cannot be built")
    edit(folder / "unet/config.json", in_channels=4, sample_size=None)
    not_loaded(folder, "its sample_size is None")


def test_parameters_under_their_former_names(unet: Path) -> None:
    """Those of attention layers stored before 2023; and pickled weights, read without executing anything."""
    folder = unet.parent
    network = diffusers.UNet2DModel(
        8, 3, 3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    network.save_pretrained(unet)
    save_scheduler(folder)
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in network.state_dict().items():
        for new, old in former.items():
            name = name.replace(f".{new}.", f".{old}.")
        state[name] = value
    assert any(".proj_attn." in name for name in state)
    torch.save(state, unet / "diffusion_pytorch_model.bin")
    assert report_folder(unet)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = network(x, 7).sample
        torch.testing.assert_close(load_diffusers(folder).model(x, torch.tensor(7.0)), expected)


def port(folder: Path) -> Any:
    """A consistency model of diffusers in small."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        8, 3, 3, layers_per_block=1, num_class_embeds=5, block_out_channels=(32, 64), attention_head_dim=16,
        attn_norm_num_groups=32, resnet_time_scale_shift="scale_shift", upsample_type="resnet",
        downsample_type="resnet", down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    ).eval()  # fmt: skip
    network.save_pretrained(folder / "unet")
    save_scheduler(folder, "CMStochasticIterativeScheduler", sigma_max=50.0)
    (folder / "model_index.json").write_text('{"_class_name": "ConsistencyModelPipeline"}')
    return network


def test_a_consistency_port(tmp_path: Path) -> None:
    theirs = port(tmp_path / "port")
    ours = load_diffusers(tmp_path / "port")
    assert isinstance(ours, ConsistencyDenoiser) and ours.num_classes == 5 and ours.sigma_max == 50
    x, rows = torch.randn(2, 3, 8, 8), torch.eye(5)[[4, 1]]
    with torch.no_grad():
        reference = theirs(x, torch.tensor(300.0), class_labels=torch.tensor([4, 1])).sample
        torch.testing.assert_close(
            ours.model(x, torch.tensor([300.0] * 2), rows), reference, rtol=1e-3, atol=1e-4
        )
    target = tmp_path / "port.safetensors"
    convert(load_port(tmp_path / "port"), target)
    converted, sigma = load_official(target), torch.tensor(3.0)
    state, expected = converted.state_dict(), ours.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    # The files are mapped, and some kernels sum in another order where weights lie elsewhere in memory.
    torch.testing.assert_close(converted(x, sigma, rows), ours(x, sigma, rows), rtol=1e-5, atol=1e-5)


def test_only_ports_are_converted(pipeline: tuple[Path, Any]) -> None:
    with pytest.raises(SkiptuneError, match="is no consistency model of diffusers, so there is nothing"):
        load_port(pipeline[0])


def test_a_folder_as_model(tmp_path: Path) -> None:
    port(tmp_path / "small-port")
    model = {
        "name": "small_port", "kind": "diffusers", "file": "small-port", "denoiser": {},
        "url": "get it with: python scripts/download.py small_port",
    }  # fmt: skip
    found = resolve_model(model, tmp_path)
    assert isinstance(load_model(found), ConsistencyDenoiser)
    assert resolve_model({**model, "sha256": found.sha256}, tmp_path) == found
    edit(tmp_path / "small-port/scheduler/scheduler_config.json", sigma_max=60.0)
    assert resolve_model(model, tmp_path).identity != found.identity
    with pytest.raises(SkiptuneError, match=f"expected {found.sha256[:12]}: it is damaged"):
        resolve_model({**model, "sha256": found.sha256}, tmp_path)
    with pytest.raises(SkiptuneError, match="of model small_port is missing; get it with: python scripts"):
        resolve_model(model, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", FOLDERS)
def test_configurations_of_folders(name: str, tmp_path: Path) -> None:
    model = FOLDERS[name]
    assert model["name"] == name and model["gflop_per_nfe"] > 0
    got_as = name.removesuffix("_1024")  # the same file
    with pytest.raises(SkiptuneError, match=f"is missing; get it with: .*download.py {got_as}$"):
        resolve_model(model, tmp_path)
    inspect.signature(load_diffusers).bind(tmp_path, **model["denoiser"])


@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
def test_prompts_are_encoded_as_by_the_pipeline(tmp_path: Path, xl: bool) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path / "made"
    pipe = tiny_pipeline(folder, xl)
    ours = prompt_inputs(folder, ["a red fox", None])
    options = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    with torch.no_grad():
        tokens, empty, *pooled = pipe.encode_prompt("a red fox", **options)
    torch.testing.assert_close(ours["context"], torch.cat([tokens, empty]))
    assert (tokens - empty).abs().max() > 1e-3
    if xl:
        torch.testing.assert_close(ours["text_embeds"], torch.cat(pooled))
        assert ours["time_ids"].tolist() == [[8.0, 8, 0, 0, 8, 8]] * 2
        larger = prompt_inputs(folder, ["a red fox"], latent_size=16)["time_ids"]
        assert larger.tolist() == [[16.0, 16, 0, 0, 16, 16]]
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(SkiptuneError, match="is a FluxPipeline; prompts are known for StableDiffusion"):
        prompt_inputs(folder, ["a"])
