"""The benchmark of loading on a small network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarks.loading import System, ddim, extra, measure, render_loading
from skiptune.errors import SkiptuneError

NETWORK = {
    "type": "simple", "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2], "num_res_blocks": 1,
    "attn_resolutions": [8], "dropout": 0.1, "resamp_with_conv": True, "image_size": 16,
}  # fmt: skip
KWARGS = {
    "network": {"class": "DDIMUNet", "kwargs": NETWORK},
    "image_shape": [3, 16, 16],
    "schedule": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02},
}
CONFIG: dict[str, Any] = {"denoiser": {"class": "DiscreteDenoiser", "kwargs": KWARGS}}
SMALL = System("small", "torch zip", ddim, 11_153_539, 4, 2)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure(SMALL, CONFIG, tmp_path_factory.mktemp("loading"))


def test_measures_are_of_loading_that_file(part: dict[str, Any]) -> None:
    assert part["bytes"] > 4 * part["parameters"] and part["converted_bytes"] > 4 * part["parameters"]
    for result in (part["official"], part["converted"]):
        assert 0 < result["seconds"] < 60
        # Every weight was read, so the whole file is resident, and little beside it.
        assert 4 * part["parameters"] < result["resident_in_use"] < part["bytes"] + 100e6
        assert result["anonymous_in_use"] < result["resident_in_use"]


def test_report(part: dict[str, Any]) -> None:
    where = {"device": "CPU", "packages": {"torch": "2"}, "commit": "0" * 40}
    report: dict[str, Any] = {"target": extra(part) + 0.1, "provenance": where, "systems": {"small": part}}
    text = render_loading(report)
    assert "| small | torch zip |" in text and f"{SMALL.parameters:,} | 4 (2) |" in text
    assert text.endswith("at any time: met by all.\n")
    assert render_loading({**report, "target": 0.5}).endswith("missed by small.\n")


def test_another_network_than_published_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        SkiptuneError, match=r"small has \(parameters, skips, equal\) \(\d+, 4, 2\), published"
    ):
        measure(replace(SMALL, parameters=1), CONFIG, tmp_path)
