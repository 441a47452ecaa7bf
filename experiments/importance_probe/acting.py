"""Interventions of the tables: the library's own, one block's weight, and weights by importance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError
from skiptune.importance import importance_weights
from skiptune.importance.weights import ARMS
from skiptune.interventions.blocks import BlockReweighting, find_transformer_blocks
from skiptune.interventions.build import attach_intervention
from skiptune.runtime.sampling import named_intervention

NONE: Mapping[str, Any] = {"name": "none"}
BLOCK_WEIGHT, IMPORTANCE = "block_weight", "importance"


def named_acting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete plain settings; what changes no bit is ``{"name": "none"}``.

    Beside the library's interventions there are

    - ``{name: block_weight, block, weight}``: a factor on the block of that number, at every step;
    - ``{name: importance, low, high, scores, also}``: Eq. 7 with the scores as they are (``normal``),
      ``inverted`` (Eq. 8) or ``mirrored``, together with the interventions of the list ``also``.

    Raises:
        SkiptuneError: an unknown intervention, setting or value.
    """
    name = settings.get("name")
    if name not in (BLOCK_WEIGHT, IMPORTANCE):
        return named_intervention(settings)
    section = Section(settings, f"intervention {name}")
    section.take("name", str)
    if name == BLOCK_WEIGHT:
        block, weight = section.take("block", int), section.number("weight")
        section.finish()
        return dict(NONE) if weight == 1 else {"name": name, "block": block, "weight": weight}
    low, high = section.number("low"), section.number("high")
    scores = section.choice("scores", ARMS) if "scores" in settings else "normal"
    also = [named_intervention(one) for one in section.optional("also", Sequence, ())]
    section.finish()
    if low > high:
        raise SkiptuneError(f"low {low:g} of the block weights is above high {high:g}")
    return {"name": name, "low": low, "high": high, "scores": scores, "also": also}


@contextlib.contextmanager
def acting_on(
    denoiser: nn.Module, settings: Mapping[str, Any], levels: Sequence[float], scores: Tensor | None
) -> Iterator[None]:
    """Attach an intervention inside the ``with`` block.

    Args:
        levels: noise levels of the sampler, with the one it ends at.
        scores: importance of the images ``[N, S, m]``, where the intervention asks for it.
    """
    complete = named_acting(settings)
    name = complete["name"]
    with contextlib.ExitStack() as stack:
        if name == BLOCK_WEIGHT:
            weights = one_weight(denoiser, complete["block"], complete["weight"])
            stack.enter_context(BlockReweighting(weights).attached_to(denoiser))
        elif name == IMPORTANCE:
            if scores is None:
                raise SkiptuneError("weights by importance need a ranking: give the row's measure one")
            weights = importance_weights(scores, complete["low"], complete["high"], complete["scores"])
            table = BlockReweighting(weights.transpose(0, 1), tuple(levels[:-1]))
            stack.enter_context(table.attached_to(denoiser))
            for other in complete["also"]:
                stack.enter_context(attach_intervention(other, denoiser, levels))
        else:
            stack.enter_context(attach_intervention(complete, denoiser, levels))
        yield


def one_weight(denoiser: nn.Module, block: int, weight: float) -> Tensor:
    """Weights ``[m]`` that are 1 but for the block of that number, as the paper counts.

    Raises:
        SkiptuneError: the network has no such block.
    """
    numbers = [found.number for found in find_transformer_blocks(denoiser)]
    if block not in numbers:
        raise SkiptuneError(
            f"there is no transformer block {block}: the network has {numbers[0]} to {numbers[-1]}"
        )
    return torch.tensor([weight if number == block else 1.0 for number in numbers])
