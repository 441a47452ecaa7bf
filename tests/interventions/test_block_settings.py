"""Interventions on transformer blocks from plain settings."""

import pytest
import torch
from tiny_diffusers import inputs, tiny_unet

from skiptune.errors import SkiptuneError
from skiptune.interventions import AttentionPruning, BlockReweighting, attach_intervention
from skiptune.interventions.build import complete_settings, is_neutral

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
WEIGHTS = [1, 1.1, 1, 0.9, 1]


@pytest.fixture(scope="module")
def call():
    network = tiny_unet(diffusers, "sdxl")
    x, named = inputs("sdxl")
    return network, lambda: network(x, 300, **named).sample


def test_settings_make_the_intervention(call):
    network, output = call
    untouched = output()
    with BlockReweighting(torch.tensor(WEIGHTS), part="branch").attached_to(network):
        scaled = output()
    with AttentionPruning(torch.tensor([False, True, False, False, True])).attached_to(network):
        pruned = output()
    for name, settings, expected in (
        ("block_reweighting", {"weights": WEIGHTS, "part": "branch"}, scaled),
        ("attention_pruning", {"blocks": [2, 5]}, pruned),
        ("block_reweighting", {}, untouched),
        ("attention_pruning", {"blocks": [[], []]}, untouched),
    ):
        with attach_intervention({"name": name, **settings}, network, [2.0, 0.0]):
            assert torch.equal(output(), expected)
    assert not torch.equal(scaled, untouched) and not torch.equal(pruned, untouched)


def test_complete_settings_are_canonical():
    whole = complete_settings({"name": "block_reweighting", "weights": [1, 2]})
    assert whole == {"name": "block_reweighting", "weights": [[1.0, 2.0]], "part": "output"}
    assert complete_settings(whole) == whole and type(whole["weights"][0][0]) is float
    pruning = complete_settings({"name": "attention_pruning", "blocks": [3, 4]})
    assert pruning["blocks"] == [[3, 4]] and complete_settings(pruning) == pruning
    assert is_neutral(complete_settings({"name": "block_reweighting", "weights": [[1, 1], [1, 1]]}))
    assert not is_neutral(whole) and not is_neutral(pruning)
    assert is_neutral(complete_settings({"name": "attention_pruning", "blocks": [[], []]}))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"name": "block_reweighting", "weights": 1.1}, "weights is 1.1, it must be a list over the blocks"),
        ({"name": "block_reweighting", "weights": ["a"]}, "a block weight is 'a', it must be a number"),
        ({"name": "block_reweighting", "weights": [-1.0]}, "must be finite numbers from 0 up"),
        ({"name": "block_reweighting", "weights": [[1], [1, 2]]}, "as many blocks in every step"),
        ({"name": "block_reweighting", "part": "input"}, "unknown part 'input'"),
        ({"name": "attention_pruning", "blocks": [True]}, "given by its number, not True"),
        ({"name": "attention_pruning", "blocks": [[1], 2]}, "must be a list over the blocks"),
    ],
)
def test_mistakes_are_one_line(settings, line):
    with pytest.raises(SkiptuneError, match=line):
        complete_settings(settings)


def test_settings_that_do_not_fit(call):
    network, _ = call
    for settings, line in (
        ({"name": "attention_pruning", "blocks": [0]}, "no transformer block 0: the network has 1 to 5"),
        ({"name": "attention_pruning", "blocks": [[1], [2]]}, "given for 2 steps, the sampler has 1"),
        ({"name": "block_reweighting", "weights": [1, 1.1]}, "2 values for a network with 5 transformer"),
    ):
        with pytest.raises(SkiptuneError, match=line), attach_intervention(settings, network, [2.0, 0.0]):
            pass
