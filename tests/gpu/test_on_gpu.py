"""What differs on a GPU: kernels, precisions, memory, generators. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch._dynamo.utils import counters

from skiptune.checkpoints.models import resolve_model
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.runtime.memory import largest_fitting
from skiptune.runtime.micro_batch import fitting_micro_batch
from skiptune.runtime.provenance import provenance
from skiptune.runtime.sampling import SamplingSettings
from skiptune.training.loop import train
from skiptune.training.settings import DenoiserTraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(40)


@pytest.fixture(autouse=True)
def fixed_algorithms() -> Iterator[None]:
    """As ``make_bench`` sets them."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = False, False, False, True
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


def on_gpu(model: str = "edm_glyphs", **changes: Any) -> SamplingSettings:
    """Skip-Tuning with Heun's sampler and 5 evaluations."""
    described = yaml.safe_load((ROOT / f"configs/model/{model}.yaml").read_text())
    settings = SamplingSettings(
        model=resolve_model(described, ROOT),
        sampler={"name": "heun", "steps": 3},
        intervention={"name": "skip_tuning", "rho_bottom": 0.8},
        features=ExtractorRef.resolve({"name": "glyphs_cnn", "kind": "desk"}),
        micro_batch=20,
        device="cuda",
    )
    return replace(settings, **changes)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Mean distance of the images in levels of 255."""
    return float((one["images"].float() - other["images"].float()).abs().mean())


@pytest.mark.parametrize("model", ["edm_glyphs", "edm2_glyphs"])
def test_images_of_a_gpu_are_those_of_a_cpu(model: str) -> None:
    settings = on_gpu(model)
    gpu, cpu = settings.compute(SEEDS), replace(settings, device="cpu").compute(SEEDS)
    assert torch.equal(gpu["labels"], cpu["labels"]) and float(gpu["nfe"]) == float(cpu["nfe"]) == 5
    assert apart(gpu, cpu) < 0.01
    assert (gpu["features"] - cpu["features"]).abs().max() < 1e-2 * cpu["features"].abs().max()


def test_same_bits_on_the_same_gpu() -> None:
    one, other = on_gpu().compute(SEEDS), on_gpu().compute(SEEDS)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("precision", "levels"), [("tf32", 0.5), ("bf16", 6.0), ("fp16", 1.0)])
def test_precisions(precision: str, levels: float) -> None:
    exact, rounded = on_gpu().compute(SEEDS), on_gpu(precision=precision).compute(SEEDS)
    assert 0 < apart(exact, rounded) < levels


def test_compiled_blocks_and_interventions_that_come_and_go() -> None:
    counters.clear()
    plain = on_gpu()
    untouched = on_gpu(intervention={"name": "none"})
    for settings in (plain, untouched, plain):
        assert apart(settings.compute(SEEDS), replace(settings, compile=True).compute(SEEDS)) < 0.01
    assert apart(plain.compute(SEEDS), untouched.compute(SEEDS)) > 0.5
    assert counters["stats"]["unique_graphs"] > 0  # not plain networks
    torch.compiler.reset()


def test_noise_of_the_gpu_is_by_seed() -> None:
    settings = on_gpu(noise_device="cuda")
    whole, part = settings.compute(SEEDS), settings.compute(range(20, 40))
    assert torch.equal(whole["labels"][20:], part["labels"])
    assert (whole["features"][20:] - part["features"]).abs().max() < 1e-2 * part["features"].abs().max()
    assert apart(whole, on_gpu().compute(SEEDS)) > 5  # the CPU's generator draws others


def test_batches_that_fit() -> None:
    assert fitting_micro_batch(on_gpu()) == 250
    free, _ = torch.cuda.mem_get_info()

    def attempt(size: int) -> None:
        torch.empty(size, free // 200, dtype=torch.uint8, device="cuda")

    assert largest_fitting(attempt, 250) == 125


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_goes_on_after_a_stop(tmp_path: Path, precision: str) -> None:
    class Stop(Exception):
        pass

    described = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    settings = DenoiserTraining(
        name="gpu", denoiser=described["denoiser"], dataset="glyphs", images=16 * 24, batch=16,
        warmup_images=0, decay_images=0, workers=1, device="cuda", precision=precision, checkpoint_every=8,
        log_every=8,
    )  # fmt: skip

    def stop(images: int, loss: float) -> None:
        if images >= 16 * 16:
            raise Stop

    whole = train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "parts", stop)
    parts = train(settings, tmp_path / "parts")
    losses = [[row["loss"] for row in state.curve] for state in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0]
    assert provenance("cuda")["device"] == torch.cuda.get_device_name(0)
