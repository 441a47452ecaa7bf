from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys, torch
from experiments.benchmarks.metric_cost import added_memory
from skiptune.evaluation import kid, make_kernel, mmd, precision_recall
torch.set_num_threads(1)
block = int(sys.argv[1])
x, y = torch.randn(2, 4000, 16).unbind()
kernels = [make_kernel(name, y[:500]) for name in ("rbf_median", "energy", "polynomial_3")]
runs = {
    "precision_recall": lambda n: precision_recall(x[:n], y[:n], block=block),
    "kid": lambda n: kid(x[:n], y[:n], 20, 100),
    "mmd": lambda n: mmd(x[:n], y[:n], kernels, block),
}
added = {}
for name in sys.argv[2:]:
    runs[name](700)
    added[name] = 1024 * added_memory(lambda: runs[name](4000))[0]
print(json.dumps(added))
"""


def added_mib(block: int, *metrics: str) -> dict[str, float]:
    """By how much a new process's memory rises above the features, for 4,000 images against as many."""
    command = [sys.executable, "-c", PROGRAM, str(block), *metrics]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return {name: float(mib) for name, mib in json.loads(run.stdout).items()}


def test_memory_is_bounded_by_the_block() -> None:
    """4,000 x 4,000 distances take 61 MiB in float32, 122 in float64; blocks of 128 rows next to nothing."""
    metrics = ("precision_recall", "kid", "mmd")
    assert added_mib(128, *metrics) == {name: pytest.approx(0, abs=30) for name in metrics}
    assert added_mib(4000, "precision_recall")["precision_recall"] > 60  # the parameter is what bounds it
