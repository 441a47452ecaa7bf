import json
import os
from pathlib import Path

# Before torch is imported, here and in what tests start: processes with more threads than there are cores
# wait for each other most of the time.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import pytest
from safetensors.torch import load_file

from experiments.golden.networks import build_network

KEPT = Path(__file__).parent / "data/golden"


def pytest_addoption(parser):
    """``--kills`` of test_killed_table.py: as many as the suite has time for, or more."""
    parser.addoption("--kills", type=int, default=1, help="moments at which the small table is killed")
    parser.addoption("--kill-report", default="", help="folder for kill.md, a report of these kills")


@pytest.fixture(scope="session")
def golden():
    """case name -> (manifest entry, network with its weights in evaluation mode, recorded tensors)."""
    entries = {entry["case"]: entry for entry in json.loads((KEPT / "manifest.json").read_text())["cases"]}

    def load(case):
        denoiser = build_network(entries[case]["constructor"])
        denoiser.load_state_dict(load_file(KEPT / case / "weights.safetensors"))
        denoiser.eval().requires_grad_(False)
        return entries[case], denoiser, load_file(KEPT / case / "io.safetensors")

    return load
