"""What an intervention does at given noise levels, as a key: equal keys, equal outputs of equal inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from skiptune.interventions.block_settings import levels_of
from skiptune.interventions.blocks import find_transformer_blocks
from skiptune.interventions.blocks.table import nearest_step
from skiptune.interventions.build import complete_settings, is_neutral, make_skip_tuning
from skiptune.interventions.sites import find_skip_sites

_BY_STEP = {"block_reweighting": "weights", "attention_pruning": "blocks"}
_TIME = ("time_direction", "time_axis", "sigma_low", "sigma_high")


def effect(settings: Mapping[str, Any], levels: Sequence[float], sigmas: Sequence[float]) -> str | None:
    """The key of an intervention at the levels ``sigmas``, None where it leaves the network as it is.

    Args:
        settings: as for ``attach_intervention``.
        levels: the sampler's noise levels with the one it ends at.
        sigmas: where the network is called.
    """
    complete = complete_settings(settings)
    if is_neutral(complete):
        return None
    if acts_on_blocks(complete):
        return effect_on_blocks(complete, levels[:-1], sigmas)
    if complete["name"] != "skip_tuning":
        return json.dumps(complete, sort_keys=True)
    weights = torch.ones(len(sigmas), dtype=torch.float64)
    for schedule in make_skip_tuning(complete, levels).schedules:
        weights = weights * schedule.weight(torch.tensor(sigmas, dtype=torch.float64))
    if not weights.any():
        return None
    constant = {key: value for key, value in complete.items() if key not in _TIME}
    return json.dumps([constant, weights.tolist()], sort_keys=True)


def effect_on_blocks(
    complete: Mapping[str, Any], steps: Sequence[float], sigmas: Sequence[float]
) -> str | None:
    """As ``effect``, of interventions that have values for every step, at the noise levels ``steps``."""
    key = _BY_STEP[complete["name"]]
    rows = complete[key]
    if levels := levels_of(len(rows), steps, key):
        called = nearest_step(levels, torch.tensor(sigmas, dtype=torch.float64))
        rows = [rows[step] for step in called.tolist()]
    here = {**complete, key: rows}
    return None if is_neutral(here) else json.dumps(here, sort_keys=True)


def acts_on_blocks(settings: Mapping[str, Any]) -> bool:
    """Whether an intervention acts on transformer blocks, which begin near the input of the network."""
    return settings["name"] in _BY_STEP


def first_places(interventions: Sequence[Mapping[str, Any]], network: nn.Module) -> list[nn.Module]:
    """Modules of which one is the first where any of the interventions may act.

    Raises:
        SkiptuneError: a network without the places that an intervention acts on.
    """
    places = [find_skip_sites(network)[0].block]
    if any(map(acts_on_blocks, interventions)):
        # The first block of all, though a later one may be the first that changes.
        places.append(find_transformer_blocks(network)[0].transformers[0].block)
    return places
