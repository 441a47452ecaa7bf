"""What S2-DM's training asks of the loop: its loss, clipping, flips, half precision; and divergence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_training import small

from skiptune.data import load_dataset
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.training.checkpoint import TrainingState, saved_steps
from skiptune.training.loop import hash_seed, train
from skiptune.training.loss_scale import INTERVAL, LossScale
from skiptune.training.losses import make_loss
from skiptune.training.settings import DenoiserTraining

NETWORK = {
    "class": "DDIMUNet",
    "kwargs": {
        "ch": 32, "out_ch": 1, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.1,
        "resamp_with_conv": True, "in_channels": 1, "image_size": 8,
    },
}  # fmt: skip
SCHEDULE = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_timesteps": 1000}
DENOISER = {
    "class": "DiscreteDenoiser",
    "kwargs": {"network": NETWORK, "image_shape": [1, 8, 8], "schedule": SCHEDULE},
}
LOSS = {"name": "skip_step", "skip": 10, "antithetic": True, "summed": True}


class Stop(Exception):
    pass


def stop_at(images: int) -> Any:
    def on_step(done: int, loss: float) -> None:
        if done >= images:
            raise Stop

    return on_step


def s2dm(**changes: Any) -> DenoiserTraining:
    """12 steps of S2-DM on digits as the DDIM program trains, a checkpoint every 4."""
    values = {"images": 96, "decay_images": 0, "warmup_images": 0, "learning_rate": 2e-4, "loss": LOSS}
    return small(**{"denoiser": DENOISER, "flip": True, "max_gradient_norm": 1.0, **values, **changes})


def assert_same(a: TrainingState, b: TrainingState) -> None:
    assert a.curve == b.curve
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert all(torch.equal(a.average[name], b.average[name]) for name in a.average)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, precision: str) -> None:
    settings = s2dm(precision=precision)
    whole = train(settings, tmp_path / "whole")
    for images in (48, 80):
        with pytest.raises(Stop):
            train(settings, tmp_path / "parts", stop_at(images))
    assert_same(train(settings, tmp_path / "parts"), whole)
    if precision == "fp16":  # sums overflow at the first scale, so steps without update were resumed, too
        scale, _, left_out = load_file(tmp_path / "whole/checkpoint.safetensors")["kept/loss_scale"].tolist()
        assert left_out >= 1 and scale == 2.0**16 / 2**left_out


def test_first_loss_is_that_of_the_flipped_images(tmp_path: Path) -> None:
    settings = s2dm(images=8, log_every=1, checkpoint_every=1)
    (row,) = train(settings, tmp_path / "flipped").curve
    torch.manual_seed(settings.seed)
    denoiser = build_denoiser(DENOISER).to(memory_format=torch.channels_last).train()
    images = load_dataset("digits", flip=True).batch(range(8), "train")[0] / 127.5 - 1
    generator = torch.Generator().manual_seed(hash_seed(0, 0, 0))
    loss = make_loss(LOSS)(denoiser, images.to(memory_format=torch.channels_last), None, generator)
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    (other,) = train(s2dm(images=8, log_every=1, checkpoint_every=1, flip=False), tmp_path / "plain").curve
    assert other["loss"] != pytest.approx(row["loss"], rel=1e-4)


def test_gradients_are_clipped_to_a_norm(tmp_path: Path) -> None:
    def first_moments(name: str, limit: float | None) -> torch.Tensor:
        train(s2dm(images=8, log_every=1, checkpoint_every=1, max_gradient_norm=limit), tmp_path / name)
        saved = load_file(tmp_path / name / "checkpoint.safetensors")
        return torch.cat([saved[key].flatten() for key in sorted(saved) if key.startswith("exp_avg/")]) / 0.1

    free, clipped, loose = (first_moments(str(limit), limit) for limit in (None, 1.0, 1e6))
    assert float(free.norm()) > 2  # a sum over elements: always clipped, as in the DDIM program
    assert float(clipped.norm()) == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(clipped * free.norm(), free, rtol=1e-4, atol=1e-5)
    assert torch.equal(loose, free)


def test_half_life_expresses_a_constant_decay_per_step() -> None:
    """DDPM's 0.9999 per step: the same after the ramp-up, of which nothing is left after 400K steps."""
    settings = s2dm(images=400_000 * 128, batch=128, ema_halflife=887_184)
    assert settings.ema_decay_at(settings.images) == pytest.approx(0.9999, abs=1e-10)
    ramp_ends = 20 * 887_184
    assert settings.ema_decay_at(ramp_ends) == settings.ema_decay_at(settings.images)
    assert 0.9999 ** ((settings.images - ramp_ends) / 128) < 1e-11


class TestHalfPrecision:
    def test_loss_is_that_of_single_precision(self, tmp_path: Path) -> None:
        loss = {**LOSS, "summed": False}  # fits float16 at the first scale
        single = train(s2dm(loss=loss), tmp_path / "single").curve
        half = train(s2dm(loss=loss, precision="fp16"), tmp_path / "half").curve
        assert [row["loss"] for row in half] == pytest.approx([row["loss"] for row in single], rel=0.02)
        assert half != single

    def test_rule_is_that_of_torch(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        theirs, ours = torch.amp.GradScaler("cpu"), LossScale()
        theirs.scale(torch.ones(1))  # it makes its scale when first used
        overflows = {0, 1, 40, 2500}
        updates = 0
        for step in range(INTERVAL + 600):
            value = math.inf if step in overflows else 3.0
            weight.grad = torch.tensor([value]) * theirs.get_scale()
            gradients = torch.tensor([value]) * ours.scale
            before = weight.item()
            theirs.step(optimizer)
            theirs.update()
            usable = ours.unscale(gradients)
            updates += usable
            assert usable == (weight.item() != before) == (step not in overflows)
            assert ours.scale == theirs.get_scale()
            assert not usable or gradients.item() == 3.0
        assert ours.left_out == 4 and updates == INTERVAL + 596
        assert ours.scale == 2.0**16 / 2**4 * 2  # grown once between the overflows

    def test_scale_that_falls_for_ever_is_divergence(self) -> None:
        scale = LossScale()
        for _ in range(16):
            scale.unscale(torch.tensor([math.nan]))
        assert not scale.exhausted
        scale.unscale(torch.tensor([math.nan]))
        assert scale.exhausted


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_divergence_is_named_and_the_last_good_checkpoint_goes_on(tmp_path: Path, precision: str) -> None:
    settings = s2dm(precision=precision)
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "run", stop_at(48))
    checkpoint = tmp_path / "run/checkpoint.safetensors"
    before = checkpoint.read_bytes()
    assert saved_steps(checkpoint) == 4
    # Step 5 or, where float16 leaves that one out, 6 spoils the weights; the next loss and row tell.
    with pytest.raises(SkiptuneError, match="not finite at step [68]; lower the learning rate") as caught:
        train(s2dm(precision=precision, learning_rate=1e38), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert checkpoint.read_bytes() == before
    assert_same(train(settings, tmp_path / "run"), whole)


def test_reading_with_astronomical_factors_diverges(tmp_path: Path) -> None:
    """S2-A2: a product of cumulative values contradicts the stated stability."""
    settings = s2dm(loss={**LOSS, "alpha": "schedule"})
    with pytest.raises(SkiptuneError, match="not finite at step"):
        train(settings, tmp_path)
