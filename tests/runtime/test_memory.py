"""Precision as a part of a run's name; memory that does not suffice."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.runtime.memory import is_out_of_memory, largest_fitting, out_of_memory
from skiptune.runtime.precision import in_precision

EXHAUST = """
import resource, torch
from skiptune.runtime.memory import is_out_of_memory, largest_fitting
free = 400_000_000
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + free, used + free))
print(largest_fitting(lambda n: torch.empty(n, 1_000_000), 250))
"""

ANY_RUN = """
import dataclasses, resource, torch
from pathlib import Path
from skiptune.runtime.seed_chunks import SeedChunk
from skiptune.runtime.store import RunStore

@dataclasses.dataclass(frozen=True)
class Large:
    micro_batch: int = 16
    device: str = "cpu"
    def resolved(self):
        return {"kind": "large"}
    def compute(self, seeds):
        return {"x": torch.empty(len(seeds), 4_000_000_000)}

settings = Large()
chunk = SeedChunk(RunStore(Path("FOLDER")).open(settings.resolved()), settings, 0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, used + 400_000_000))
try:
    chunk()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_run_of_any_kind_says_which_value_to_use(tmp_path):
    code = ANY_RUN.replace("FOLDER", str(tmp_path))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.startswith("SkiptuneError out of memory on cpu with micro_batch=16: use 8"), found


def test_the_largest_that_fits_is_found_by_a_real_allocation_that_fails():
    # A million floats an image: 250 and 125 of them are more than 400 MB, 62 are not.
    found = subprocess.run([sys.executable, "-c", EXHAUST], capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == ["62"], found.stderr


def test_other_errors_are_not_taken_for_lack_of_memory():
    def wrong(size):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_fitting(wrong, 250)
    assert not is_out_of_memory(RuntimeError("x")) and is_out_of_memory(torch.OutOfMemoryError("CUDA"))


def test_the_line_says_which_value_to_use():
    assert "micro_batch=125: use 62" in str(out_of_memory(125, "cuda"))
    assert "finished chunks of this one are kept" in str(out_of_memory(125, "cuda"))
    with pytest.raises(SkiptuneError, match="out of memory on the device with a micro_batch of 1"):
        largest_fitting(lambda size: (_ for _ in ()).throw(MemoryError()), 4)


def test_products_inside_the_block_have_that_precision_and_a_samplers_state_keeps_its_own():
    a, state = torch.full((8, 8), 1 / 3), torch.full((8, 8), 1 / 3, dtype=torch.float64)
    exact = a @ a
    with in_precision("bf16", "cpu"):
        assert (a @ a).dtype == torch.bfloat16 and (state @ state).dtype == torch.float64
    with in_precision("fp32", "cpu"):
        assert torch.equal(a @ a, exact)
