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
from skiptune.interventions.blocks import AttentionPruning, BlockReweighting, find_transformer_blocks
from skiptune.interventions.build import attach_intervention
from skiptune.runtime.generation import named_intervention

NONE: Mapping[str, Any] = {"name": "none"}
BLOCK_WEIGHT, IMPORTANCE, FOUND, PRUNE = "block_weight", "importance", "found_weights", "prune_least"
OWN = (BLOCK_WEIGHT, IMPORTANCE, FOUND, PRUNE)
RANKED = (IMPORTANCE, PRUNE)  # these need a ranking


def named_acting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete plain settings; what changes no bit is ``{"name": "none"}``.

    Beside the library's interventions there are

    - ``{name: block_weight, block, weight}``: a factor on the block of that number, at every step;
    - ``{name: importance, low, high, scores, also}``: Eq. 7 with the scores as they are (``normal``),
      ``inverted`` (Eq. 8) or ``mirrored``, together with the interventions of the list ``also``;
    - ``{name: found_weights}``: those that an ``EquationRun`` has found;
    - ``{name: prune_least, skip}``: the transformers of that many least important blocks are skipped at
      every step.

    Raises:
        SkiptuneError: an unknown intervention, setting or value.
    """
    name = settings.get("name")
    if name not in OWN:
        return named_intervention(settings)
    section = Section(settings, f"intervention {name}")
    section.take("name", str)
    if name == BLOCK_WEIGHT:
        block, weight = section.take("block", int), section.number("weight")
        section.finish()
        return dict(NONE) if weight == 1 else {"name": name, "block": block, "weight": weight}
    if name == FOUND:
        section.finish()
        return {"name": name}
    if name == PRUNE:
        skip = section.take("skip", int)
        section.finish()
        return dict(NONE) if skip == 0 else {"name": name, "skip": skip}
    low, high = section.number("low"), section.number("high")
    scores = section.choice("scores", ARMS) if "scores" in settings else "normal"
    also = [named_intervention(one) for one in section.optional("also", Sequence, ())]
    section.finish()
    if low > high:
        raise SkiptuneError(f"low {low:g} of the block weights is above high {high:g}")
    return {"name": name, "low": low, "high": high, "scores": scores, "also": also}


@contextlib.contextmanager
def acting_on(
    denoiser: nn.Module, settings: Mapping[str, Any], levels: Sequence[float], found: Tensor | None
) -> Iterator[None]:
    """Attach an intervention inside the ``with`` block.

    Args:
        levels: noise levels of the sampler, with the one it ends at.
        found: scores or weights of the images ``[N, S, m]``, where the intervention asks for them.
    """
    complete = named_acting(settings)
    with contextlib.ExitStack() as stack:
        if complete["name"] == BLOCK_WEIGHT:
            weights = one_weight(denoiser, complete["block"], complete["weight"])
            stack.enter_context(BlockReweighting(weights).attached_to(denoiser))
        elif complete["name"] in OWN:
            if found is None:
                raise SkiptuneError(
                    f"intervention {complete['name']} needs a ranking: name one in the row's measure"
                )
            stack.enter_context(by_image(complete, found, tuple(levels[:-1])).attached_to(denoiser))
            for other in complete.get("also", ()):
                stack.enter_context(attach_intervention(other, denoiser, levels))
        else:
            stack.enter_context(attach_intervention(complete, denoiser, levels))
        yield


def by_image(
    complete: Mapping[str, Any], found: Tensor, levels: tuple[float, ...]
) -> BlockReweighting | AttentionPruning:
    """What acts on every image by its own scores or weights ``[N, S, m]``."""
    if complete["name"] == PRUNE:
        return AttentionPruning(least(found, complete["skip"]).transpose(0, 1), levels)
    weights = found
    if complete["name"] == IMPORTANCE:
        weights = importance_weights(found, complete["low"], complete["high"], complete["scores"])
    return BlockReweighting(weights.transpose(0, 1), levels)


def least(scores: Tensor, count: int) -> Tensor:
    """Which ``count`` blocks have the lowest scores, bool of the shape of ``scores`` ``[..., m]``.

    Raises:
        SkiptuneError: more than there are.
    """
    if not 0 < count < scores.shape[-1]:
        raise SkiptuneError(f"{count} blocks cannot be skipped at a step: there are {scores.shape[-1]}")
    order = scores.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)


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
