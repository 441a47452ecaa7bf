"""Parity with the official samplers, on the data kept here and, where present, on all of shared/golden."""

import json
import math
from pathlib import Path

import pytest
import torch

from experiments.golden.compare import compare, compare_outputs
from experiments.golden.samplers import (
    check_edm_sampler,
    check_unipc_edm,
    check_unipc_edm_net,
    check_unipc_vp,
)

REPOSITORY = Path(__file__).parents[2]
FOLDERS = {"kept": REPOSITORY / "tests/data/golden", "shared": REPOSITORY.parent / "shared/golden"}
CHECKS = {
    "edm_sampler": check_edm_sampler,
    "unipc_edm": check_unipc_edm,
    "unipc_edm_net": check_unipc_edm_net,
    "unipc_vp": check_unipc_vp,
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("case", CHECKS)
def test_case(case, folder):
    root = FOLDERS[folder]
    if not (root / "manifest.json").exists():
        pytest.skip(f"no reference data at {root.name} beside the repository")
    entries = {entry["case"]: entry for entry in json.loads((root / "manifest.json").read_text())["cases"]}
    results = list(CHECKS[case](root / case, entries[case]))
    assert len(results) == sum(io["role"] == "output" for io in entries[case]["io"].values())
    assert [result for result in results if not result.passed] == []


def test_tolerances_bind_exactly():
    ref = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    entry = {"rtol": 0.1, "atol": 0.5}
    result = compare("case/run/x", ref + torch.tensor([0.3, 0.0, 0.25]), ref, entry)
    assert (result.case, result.tensor, result.passed) == ("case", "run/x", True)
    assert result.largest == pytest.approx(0.5)
    assert not compare("case/x", ref + torch.tensor([0.0, 0.0, 0.51]), ref, entry).passed
    by_index = {**entry, "atol_by_index": [0.5, 0.5, 0.1]}
    assert compare("case/x", ref + torch.tensor([0.0, 0.0, 0.2]), ref, by_index).largest == pytest.approx(2)
    rows = compare(
        "case/x", ref.expand(2, 3) + 0.2, ref.expand(2, 3), {"rtol": 0, "atol": 1, "atol_by_index": [1, 0.1]}
    )
    assert rows.largest == pytest.approx(2)


def test_what_cannot_be_compared_fails():
    ref, entry = torch.ones(3), {"rtol": 0.1, "atol": 0.1}
    assert not compare("case/x", torch.ones(4), ref, entry).passed
    assert not compare("case/x", torch.tensor([1.0, math.nan, 1.0]), ref, entry).passed
    assert not compare("case/x", torch.tensor([1.0, math.inf, 1.0]), ref, entry).passed
    assert compare("case/i", torch.tensor([1, 2]), torch.tensor([1, 2]), {}).passed
    assert not compare("case/i", torch.tensor([1, 3]), torch.tensor([1, 2]), {}).passed
    assert not compare("case/i", torch.tensor([1.0, 2.5]), torch.tensor([1, 2]), {}).passed
    listed = {"io": {"x": {"role": "output", **entry}, "y": {"role": "input"}}}
    assert [(r.tensor, r.passed) for r in compare_outputs("case", listed, {}, {"x": ref})] == [("x", False)]
