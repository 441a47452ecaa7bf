"""What an intervention does at given noise levels, as a key: equal keys, equal outputs of equal inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from skiptune.interventions.build import complete_settings, is_neutral, make_skip_tuning

_TIME = ("time_direction", "time_axis", "sigma_low", "sigma_high")


def effect(settings: Mapping[str, Any], levels: Sequence[float], sigmas: Sequence[float]) -> str | None:
    """The key of an intervention at the levels ``sigmas``, None where it leaves the network as it is.

    Args:
        settings: as for ``attach_intervention``.
        levels: the sampler's noise levels.
        sigmas: where the network is called.
    """
    complete = complete_settings(settings)
    if is_neutral(complete):
        return None
    if complete["name"] != "skip_tuning":
        return json.dumps(complete, sort_keys=True)
    weights = torch.ones(len(sigmas), dtype=torch.float64)
    for schedule in make_skip_tuning(complete, levels).schedules:
        weights = weights * schedule.weight(torch.tensor(sigmas, dtype=torch.float64))
    if not weights.any():
        return None
    constant = {key: value for key, value in complete.items() if key not in _TIME}
    return json.dumps([constant, weights.tolist()], sort_keys=True)
