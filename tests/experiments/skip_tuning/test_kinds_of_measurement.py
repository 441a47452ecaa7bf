"""Measurements on a network without sampling: what their runs compute, and what settings they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.measurement import Measurement, SeedBlocks
from experiments.network_run import image_numbers
from experiments.registry import kind_of, measurement
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import RunStore

BLOCKS = SeedBlocks(0, 2, 250)
TUNED = {"name": "skip_tuning", "rho_bottom": 0.8, "rho_top": 0.8}
Desk = dict[str, Scale]


def condition(
    scale: Scale,
    measure: dict[str, Any],
    metrics: tuple[str, ...],
    intervention: dict[str, Any] | None = None,
    role: str = "class_conditional_edm",
) -> Measurement:
    sampler = {"name": "heun", "steps": 12}
    row = RowConfig("id", "label", "arm", role, measure, sampler, {}, ("desk",), (), None, {}, {})
    assert kind_of(row).evaluations(scale, row) > 0
    return measurement(scale, row, intervention or {"name": "none"}, BLOCKS, metrics)


def test_gradient_norms_of_noise_belong_to_seeds_and_read_no_images(scales: Desk) -> None:
    measure = {"kind": "gradient_norm", "sigma": 80, "inputs": "noise"}
    run = condition(scales["desk"], measure, ("sum", "jacobian")).settings
    both, second = run.compute(range(2)), run.compute(range(1, 2))
    assert both["sum"].shape == both["jacobian"].shape == (2,) and (both["sum"] > 0).all()
    torch.testing.assert_close(both["sum"][1:], second["sum"], rtol=1e-4, atol=0)
    assert run.resolved()["dataset"] is None
    data = condition(scales["desk"], {**measure, "inputs": "data"}, ("sum",)).settings
    assert data.resolved()["dataset"]["name"] == "glyphs"
    tuned = condition(scales["desk"], measure, ("sum",), TUNED).settings
    assert not torch.equal(tuned.compute(range(2))["sum"], both["sum"])


def test_80_and_80_0_are_one_run(scales: Desk) -> None:
    runs = [
        condition(scales["desk"], {"kind": "gradient_norm", "sigma": s, "inputs": "noise"}, ("sum",)).settings
        for s in (80, 80.0)
    ]
    assert runs[0].resolved() == runs[1].resolved()


def test_skip_norms_of_every_site_and_their_mean(scales: Desk) -> None:
    measure = {"kind": "skip_norms", "sigma": 1.0, "inputs": "data", "site": 3}
    made = condition(scales["desk"], measure, ("prop", "share", "weight"))
    found = made.settings.compute(range(3))
    props = torch.stack([found[f"prop_{i}"] for i in range(9)])
    torch.testing.assert_close(found["prop_mean"], props.mean(0))
    torch.testing.assert_close(found["share_3"], props[3] / (1 + props[3]))
    assert 0 < float(found["weight_3"][0]) < 1 and found["weight_3"].unique().numel() == 1
    # Attached inside of the recording, rho scales what the decoder receives.
    scaled = condition(scales["desk"], measure, ("prop",), TUNED).settings.compute(range(3))
    torch.testing.assert_close(scaled["prop_0"], 0.8 * found["prop_0"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("sigma", ["training", 0.5])
def test_losses_of_the_untouched_network_do_not_depend_on_how_it_is_said(
    scales: Desk, sigma: str | float
) -> None:
    measure = {"kind": "denoising_loss", "sigma": sigma}
    plain = condition(scales["desk"], measure, ("pixel",)).settings.compute(range(3))
    neutral = {"name": "skip_tuning", "rho_bottom": 1.0, "rho_top": 1.0}
    same = condition(scales["desk"], measure, ("pixel",), neutral).settings.compute(range(3))
    names = {"pixel", "feature_1", "feature_2", "feature_3", "LL", "LH", "HL", "HH", "nfe"}
    assert set(plain) == names and all(torch.equal(plain[name], same[name]) for name in names)
    tuned = condition(scales["desk"], measure, ("pixel",), TUNED).settings.compute(range(3))
    assert all(not torch.equal(tuned[name], plain[name]) for name in names - {"nfe"})


def test_inverted_digits_against_gaussian_draws(scales: Desk, tmp_path: Path) -> None:
    made = condition(
        scales["desk"],
        {"kind": "inversion"},
        ("mmd_rbf_median", "biased_rbf_median"),
        role="unconditional_edm",
    )
    store = RunStore(tmp_path)
    run = open_run(made.settings, store)
    for number in (0, 1):
        run.write_chunk(number, made.settings.compute(range(250 * number, 250 * number + 250)))
    noise = run.read_chunk(0)["noise"]
    # Few steps from images without any noise end with too little of it.
    assert noise.shape == (250, 64) and 0.6 < float(noise.std()) < 1
    found = made.evaluate(store)
    assert found.nfe == 22  # Heun on 12 positive levels
    assert len(found.values["mmd_rbf_median"]) == 2
    biased, unbiased = found.values["biased_rbf_median"], found.values["mmd_rbf_median"]
    assert all(b > u > 0 for b, u in zip(biased, unbiased, strict=True))


def test_normalisation_hides_the_scale_of_groups_of_skip_channels(scales: Desk) -> None:
    measure = {"kind": "normalisation", "sigma": 1.0, "rho": 0.8}
    found = condition(scales["desk"], measure, ("groups_skip",)).settings.compute(range(3))
    assert float(found["groups_skip"].max()) < 1e-3 and float(found["groups_decoder"].max()) == 0
    assert float(found["groups_mixed"].max()) == 0  # the desk's widths do not straddle
    assert float(found["block_norm0_input"].max()) < 1e-3 < float(found["block_residual"].min())


def test_images_of_a_sorted_data_set_come_in_a_fixed_random_order() -> None:
    digits, glyphs = load_dataset("digits"), load_dataset("glyphs")
    first = image_numbers(digits, range(100))
    assert first == image_numbers(digits, range(100)) != sorted(first)
    assert first[10:20] == image_numbers(digits, range(10, 20))
    everyone = image_numbers(digits, range(digits.size("reference")))
    assert sorted(everyone) == list(range(digits.size("reference")))
    assert image_numbers(glyphs, range(7, 9)) == [7, 8]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ({"kind": "gradient_norm", "sigma": 5.0}, "measure: missing key 'inputs'"),
        ({"kind": "gradient_norm", "sigma": 5.0, "inputs": "x"}, "'x' is not one of noise, data"),
        ({"kind": "skip_norms", "inputs": "data"}, "measure: missing key 'sigma'"),
        ({"kind": "denoising_loss", "sigma": "traning"}, "sigma: expected a finite number"),
        ({"kind": "denoising_loss", "sigma": 1.0, "wavelet": "haar"}, "unknown key 'wavelet'"),
        ({"kind": "normalisation", "sigma": 1.0}, "measure: missing key 'rho'"),
        ({"kind": "inversion", "steps": 3}, "unknown key 'steps'"),
    ],
)
def test_mistakes_are_one_line(scales: Desk, measure: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        condition(scales["desk"], measure, ("pixel",))
