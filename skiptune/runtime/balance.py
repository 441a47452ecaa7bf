"""In which order processes take tasks, and which of them are cut, so that all processes end together."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Of the time without a cut: what the parts of a task have in common is computed for each.
SHORTER = 0.97


def balanced(
    tasks: Sequence[T], processes: int, work: Callable[[T], float], parts: Callable[[T], Sequence[T]]
) -> list[T]:
    """The tasks for several processes that take the next one whenever they are free: the largest first
    (Graham 1969), and cut, at most as often as there are processes, where everything then ends earlier.

    For one process they stay as they are.

    Args:
        work: of a task, in any unit of time.
        parts: that a task can be cut into; the task alone if it cannot.
    """
    if processes == 1 or not tasks:
        return list(tasks)
    best = current = sorted(tasks, key=work, reverse=True)
    end, last = ending(current, processes, work)
    for _ in range(processes):
        # The one that ends last, or the largest that can be cut.
        cut = next((i for i in (last, *range(len(current))) if len(parts(current[i])) > 1), None)
        if cut is None:
            break
        rest = current[:cut] + current[cut + 1 :]
        current = sorted([*rest, *parts(current[cut])], key=work, reverse=True)
        now, last = ending(current, processes, work)
        if now < SHORTER * end:
            best, end = current, now
    return best


def ending(tasks: Sequence[T], processes: int, work: Callable[[T], float]) -> tuple[float, int]:
    """When the last of the tasks ends that are taken in this order, and its index."""
    free = [0.0] * processes
    ends = []
    for task in tasks:
        ends.append(heapq.heappop(free) + work(task))
        heapq.heappush(free, ends[-1])
    return max((end, i) for i, end in enumerate(ends))
