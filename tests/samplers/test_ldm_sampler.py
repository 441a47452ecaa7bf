import json
from pathlib import Path

import pytest

from experiments.golden.ldm_sampler import check_ldm_sampler

SHARED = Path(__file__).parents[3] / "shared/golden"


def test_parity_with_the_official_program():
    if not (SHARED / "manifest.json").exists():
        pytest.skip("no reference data beside the repository")
    entries = json.loads((SHARED / "manifest.json").read_text())["cases"]
    entry = next(entry for entry in entries if entry["case"] == "ldm_sampler")
    results = list(check_ldm_sampler(SHARED / "ldm_sampler", entry))
    assert len(results) == sum(io["role"] == "output" for io in entry["io"].values())
    assert [result for result in results if not result.passed] == []
