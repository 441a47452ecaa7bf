from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_training import small
from torch import Tensor

from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.training.checkpoint import TrainingState
from skiptune.training.loop import hash_seed, train


class Stop(Exception):
    pass


def stop_after(images: int):
    def on_step(done: int, loss: float) -> None:
        if done >= images:
            raise Stop

    return on_step


def assert_same(a: TrainingState, b: TrainingState) -> None:
    assert a.curve == b.curve
    for first, second in ((a.weights, b.weights), (a.average, b.average)):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = small(images=1000, batch=10, learning_rate=2.0, warmup_images=40, decay_images=200)
    rates = [settings.learning_rate_at(step * 10) for step in range(100)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4:81] == [2.0] * 77
    assert rates[81:] == pytest.approx([2.0 * (1000 - 10 * step) / 200 for step in range(81, 100)])
    assert settings.learning_rate_at(1000) == 0
    constant = small(images=1000, batch=10, learning_rate=2.0, warmup_images=0, decay_images=0)
    assert [constant.learning_rate_at(step * 10) for step in range(100)] == [2.0] * 100


def test_ema_decay_halves_the_past_in_a_halflife() -> None:
    settings = small(images=10_000, batch=10, ema_halflife=100)
    assert math.prod(settings.ema_decay_at(5000 + 10 * i) for i in range(10)) == pytest.approx(0.5)
    assert settings.ema_decay_at(400) == pytest.approx(0.5 ** (10 / 20))  # ramp-up: 5% of 400 images
    assert settings.ema_decay_at(0) == 0


def test_seeds_of_steps_do_not_meet() -> None:
    seeds = [hash_seed(a, b, c) for a in range(4) for b in range(1000) for c in range(4)]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0 and max(seeds) < 2**63
    low_bits = torch.tensor([seed & 1 for seed in seeds]).double().mean()
    assert abs(low_bits - 0.5) < 0.02


def test_same_settings_give_the_same_bits(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    seen: list[int] = []
    first = train(small(), tmp_path / "a", lambda images, loss: seen.append(images))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    torch.manual_seed(7)
    assert_same(train(small(), tmp_path / "b"), first)
    assert (tmp_path / "a/loss.jsonl").read_bytes() == (tmp_path / "b/loss.jsonl").read_bytes()
    assert seen == [row["images"] for row in first.curve] == list(range(16, 193, 16))
    other = train(small(seed=1), tmp_path / "c")
    assert other.curve != first.curve
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "checkpoint.safetensors",
        "loss.jsonl",
    ]


def test_training_learns(tmp_path: Path) -> None:
    settings = small(images=1280, batch=16, learning_rate=1e-2, log_every=20, checkpoint_every=80)
    curve = train(settings, tmp_path).curve
    assert curve[-1]["loss"] < 0.85 * curve[0]["loss"]


def test_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(small(), tmp_path / "whole")
    for images in (16, 80, 128, 176):
        with pytest.raises(Stop):
            train(small(), tmp_path / "parts", stop_after(images))
    log = tmp_path / "parts/loss.jsonl"
    log.write_text(log.read_text() + '{"images": 19')  # as a kill in mid-write leaves it
    resumed: list[int] = []
    assert_same(train(small(), tmp_path / "parts", lambda images, loss: resumed.append(images)), whole)
    assert resumed == [176, 192]  # the checkpoint of image 160 was used
    assert log.read_bytes() == (tmp_path / "whole/loss.jsonl").read_bytes()
    assert_same(train(small(), tmp_path / "parts", lambda *_: pytest.fail("it was finished")), whole)


def test_run_is_lengthened_before_its_decay(tmp_path: Path) -> None:
    short, long = small(images=192), small(images=256)
    with pytest.raises(Stop):
        train(
            short, tmp_path / "short", stop_after(144)
        )  # last checkpoint at 128, where the decay would begin
    shutil.copytree(tmp_path / "short", tmp_path / "longer")
    whole = train(long, tmp_path / "long")
    assert_same(train(long, tmp_path / "longer"), whole)
    train(short, tmp_path / "short")  # once it has decayed it is another run
    shutil.copytree(tmp_path / "short", tmp_path / "late")
    assert train(long, tmp_path / "late").curve != whole.curve


def test_what_is_seen_at_a_checkpoint_is_the_run_that_ends_there(tmp_path: Path) -> None:
    """Stopped and continued, every checkpoint is seen, with the bits of a run of its own."""
    seen: dict[int, dict[str, Tensor]] = {}

    def keep(images: int, state: TrainingState) -> None:
        seen[images] = {name: average.clone() for name, average in state.average.items()}

    settings = small(decay_images=0)
    with pytest.raises(Stop):
        train(settings, tmp_path / "parts", stop_after(80), keep)
    assert sorted(seen) == [32, 64]
    train(settings, tmp_path / "parts", on_checkpoint=keep)
    assert sorted(seen) == [32, 64, 96, 128, 160, 192]
    for images in (64, 128):
        alone = train(small(decay_images=0, images=images), tmp_path / str(images)).average
        assert all(torch.equal(seen[images][name], alone[name]) for name in alone)


def test_average_follows_the_weights(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"decay_images": 0, "log_every": 1, "checkpoint_every": 1, "ema_halflife": 1000}
    torch.manual_seed(0)
    expected = {name: p.detach().double() for name, p in build_denoiser(small().denoiser).named_parameters()}
    for steps in (1, 2, 3, 4):  # without decay a longer run begins like a shorter one
        state = train(small(images=8 * steps, **changes), tmp_path / str(steps))
        decay = 0.5 ** (8 / min(1000, 0.05 * 8 * steps))
        expected = {name: decay * a + (1 - decay) * state.weights[name] for name, a in expected.items()}
    assert any(not torch.equal(state.average[name], state.weights[name]) for name in expected)
    for name, average in expected.items():
        torch.testing.assert_close(state.average[name].double(), average, rtol=1e-5, atol=1e-7)


def poison(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a checkpoint whose first weight is NaN, progress as in the file."""
    first = next(name for name in tensors if name.startswith("weight/") and name.endswith("weight"))
    tensors[first].view(-1)[0] = math.nan
    save_file(tensors, path, {"step": "4", "seconds": "1.0", "recent": "[]"})


def test_nan_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train(small(), tmp_path, stop_after(48))
    poison(load_file(checkpoint), checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(SkiptuneError, match="not finite at step 6; lower the learning rate") as caught:
        train(small(), tmp_path)
    assert "\n" not in str(caught.value) and checkpoint.read_bytes() == before
    assert [json.loads(line)["images"] for line in (tmp_path / "loss.jsonl").read_text().splitlines()] == [
        16,
        32,
    ]


def test_too_large_a_learning_rate_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match="not finite at step"):
        train(small(learning_rate=1e30, warmup_images=0), tmp_path)


def test_checkpoint_of_a_longer_run_is_refused(tmp_path: Path) -> None:
    train(small(), tmp_path)
    with pytest.raises(SkiptuneError, match="is from step 24, the run ends at 16"):
        train(small(images=128), tmp_path)


def test_loss_is_the_mean_since_the_last_row(tmp_path: Path) -> None:
    fine = train(small(log_every=1), tmp_path / "1").curve
    coarse = train(small(log_every=2), tmp_path / "2").curve
    for (a, b), row in zip(list(pairwise(fine))[::2], coarse, strict=True):
        assert row["images"] == b["images"] and row["loss"] == pytest.approx((a["loss"] + b["loss"]) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 9, "workers": 2}, "batch 9 does not divide among 2 workers"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown; choose fp32, bf16 or fp16"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm is 0.0; use a positive one, or null"),
        ({"device": "gpu"}, "device 'gpu' is unknown; choose cpu or cuda"),
        ({"images": 7}, "7 images are no batch of 8"),
        ({"workers": 0}, "workers is 0; it must be 1 or more"),
        ({"loss": {"name": "edm", "p_meen": 0.0}}, "loss .* does not fit: .*p_meen"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SkiptuneError, match="cannot write .*file"):
        train(small(), tmp_path / "file")
    with pytest.raises(SkiptuneError, match="workers need a GPU each, torch sees"):
        train(small(device="cuda", workers=256, batch=256, images=256), tmp_path)


def test_network_with_an_input_that_training_does_not_feed(tmp_path: Path) -> None:
    settings = small()
    settings.denoiser["kwargs"]["augment_dim"] = 9
    with pytest.raises(
        SkiptuneError, match="does not depend on model.map_augment.weight; describe the network"
    ):
        train(settings, tmp_path)
