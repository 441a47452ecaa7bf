"""Networks with compiled blocks: interventions that come and go act as on the plain network."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from skiptune.interventions import FreeU, SkipTuning
from skiptune.runtime.compiled import CompiledForward, compile_blocks

NO_COMPILER = """
import torch
from skiptune.denoisers import VPPrecond
from skiptune.errors import SkiptuneError
from skiptune.runtime.compiled import compile_blocks
network = VPPrecond(8, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])
compile_blocks(network)
try:
    with torch.no_grad():
        network(torch.zeros(1, 3, 8, 8), torch.tensor(2.0))
except SkiptuneError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def compiled(family):
    """A copy of the family's network with compiled blocks; "eager" compiles as far as hooks are concerned."""
    made = replace(family, network=copy.deepcopy(family.network))
    compile_blocks(made.network, backend="eager")
    return made


def versions() -> int:
    """Graphs made so far."""
    return counters["stats"]["unique_graphs"]


def test_interventions_act_between_compiled_blocks_without_compiling_anew(family, compiled) -> None:
    blocks = [module for module in compiled.network.modules() if "forward" in vars(module)]
    assert len(blocks) >= len(compiled.sites) and all(
        isinstance(block.forward, CompiledForward) for block in blocks
    )
    untouched = family()
    torch.testing.assert_close(compiled(), untouched)
    made = versions()
    assert made > 0
    inside_blocks = family.sites[0][0].endswith("skip_linear")  # which run as written while tuned
    for intervention in (SkipTuning.interpolated(0.5), SkipTuning.interpolated(0.7), FreeU(b1=1.3, s1=0.6)):
        with intervention.attached_to(family.network):
            expected = family()
        assert not torch.allclose(expected, untouched)
        for _ in range(2):
            with intervention.attached_to(compiled.network):
                torch.testing.assert_close(compiled(), expected)
    assert versions() == made or inside_blocks
    torch.testing.assert_close(compiled(), untouched)


def test_what_acts_inside_of_a_block_acts(family, compiled) -> None:
    untouched = compiled()
    for place in set(family.places) - {"input"}:
        tuning = SkipTuning.interpolated(0.5, place=place)
        with tuning.attached_to(family.network):
            expected = family()
        with tuning.attached_to(compiled.network):
            torch.testing.assert_close(compiled(), expected)
        assert not torch.allclose(expected, untouched)
    torch.testing.assert_close(compiled(), untouched)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_no_compiler_is_one_line() -> None:
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    said = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert said.startswith("the network cannot be compiled here (") and "give compile=false" in said
    assert said.count("\n") == 1
