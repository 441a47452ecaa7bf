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

from skiptune.errors import SkiptuneError
from skiptune.interventions import (
    AttentionPruning,
    BlockReweighting,
    FreeU,
    SkipTuning,
    find_skip_sites,
    find_transformer_blocks,
    network_family,
)
from skiptune.interventions.prefix_memory import PrefixMemory
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
    assert len(blocks) >= len(compiled.sites)
    for block in blocks:  # and nothing keeps one from being compiled
        assert isinstance(block.forward, CompiledForward) and not block.forward.touched
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
    inside = set(family.places) - {"input"}
    if not inside:
        pytest.skip("the family has no such place")
    for place in inside:
        tuning = SkipTuning.interpolated(0.5, place=place)
        with tuning.attached_to(family.network):
            expected = family()
        with tuning.attached_to(compiled.network):
            torch.testing.assert_close(compiled(), expected)
        assert not torch.allclose(expected, untouched)
    torch.testing.assert_close(compiled(), untouched)


def test_what_stands_in_for_a_block_acts(family, compiled) -> None:
    """As in a shared pass through the beginning."""
    memories = [
        PrefixMemory(one.network, [find_skip_sites(one.network)[1].block]) for one in (family, compiled)
    ]
    results = []
    for one, memory in zip((family, compiled), memories, strict=True):
        with memory.recording():
            one()
        memory.results = [(block, scaled(output, 1.5)) for block, output in memory.results]
        with memory.replaying():
            results.append(one())
    torch.testing.assert_close(results[1], results[0])
    assert not torch.allclose(results[0], family())


def test_transformers_are_weighted_and_left_out(family, compiled) -> None:
    if network_family(family.network).family != "diffusers" or len(family.inputs) < 3:
        pytest.skip("the family has no transformer blocks")
    count = len(find_transformer_blocks(family.network))
    for made in (BlockReweighting(torch.full((count,), 0.5)), AttentionPruning(torch.arange(count) != 1)):
        with made.attached_to(family.network):
            expected = family()
        with made.attached_to(compiled.network):
            torch.testing.assert_close(compiled(), expected)
        assert not torch.allclose(expected, family())


def scaled(output, factor):
    if isinstance(output, tuple | list):
        return type(output)(scaled(item, factor) for item in output)
    return output * factor


def test_a_compiled_network_is_not_copied(compiled) -> None:
    with pytest.raises(SkiptuneError, match="cannot be copied"):
        copy.deepcopy(compiled.network)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_no_compiler_is_one_line() -> None:
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    said = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert said.startswith("the network cannot be compiled here (") and "give compile=false" in said
    assert said.count("\n") == 1
