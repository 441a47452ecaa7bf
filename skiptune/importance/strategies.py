"""Which blocks to skip at which step: strategies from a ranking, and baselines (Sec. III-G and IV-C)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from skiptune.errors import SkiptuneError

Strategy = tuple[tuple[int, ...], ...]
"""For every step the numbers of the blocks that are skipped."""


def ranked_strategies(ranking: Sequence[Sequence[int]], count: int) -> list[Strategy]:
    """Skip ``count`` of the ``count + 1`` least important blocks at every step, in all combinations.

    That is one of the two least important, ``2^S`` strategies, or a pair of the three least important,
    ``3^S``, as in the authors' program.

    Args:
        ranking: block numbers of every step, least important first.

    Raises:
        SkiptuneError: more blocks to skip than there are to choose from.
    """
    refuse_count(count, min(len(step) for step in ranking) - 1)
    choices = [sorted_sets(step[: count + 1], count) for step in ranking]
    return list(itertools.product(*choices))


def baseline_strategies(
    numbers: Sequence[int], count: int, steps: int, dynamic: bool, symmetric: bool | None = None
) -> list[Strategy]:
    """Strategies without a ranking that skip ``count`` blocks at every step, all of one kind.

    No strategy is of two kinds. The authors' program has the static single blocks and symmetric pairs.

    Args:
        numbers: of the network's blocks, in the order of execution.
        dynamic: different blocks at some steps; else the same ones at all.
        symmetric: the blocks lie mirrored around the middle, encoder to decoder, at every step; ``False``:
            they do not at some step; ``None``: whether they do or not, as for single blocks.

    Raises:
        SkiptuneError: more blocks to skip than there are to choose from.
    """
    refuse_count(count, len(numbers) - 1)
    mirror = dict(zip(numbers, reversed(numbers), strict=True))

    def is_symmetric(blocks: tuple[int, ...]) -> bool:
        return {mirror[number] for number in blocks} == set(blocks)

    sets = sorted_sets(numbers, count)
    if symmetric:
        sets = [blocks for blocks in sets if is_symmetric(blocks)]
    every = itertools.product(sets, repeat=steps) if dynamic else ((blocks,) * steps for blocks in sets)
    return [
        strategy
        for strategy in every
        if (len(set(strategy)) > 1) == dynamic and symmetric in (None, all(map(is_symmetric, strategy)))
    ]


def sorted_sets(numbers: Sequence[int], count: int) -> list[tuple[int, ...]]:
    return [tuple(sorted(chosen)) for chosen in itertools.combinations(numbers, count)]


def refuse_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise SkiptuneError(f"{count} blocks cannot be skipped at a step: choose 1 to {most}")
