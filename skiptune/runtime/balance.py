"""In which order processes take tasks, and which of them are cut, so that all processes end together."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Tasks are cut for nothing less: what their parts had in common is then computed for each.
WORTHWHILE = 0.97


def balanced(
    tasks: Sequence[T], processes: int, work: Callable[[T], float], parts: Callable[[T], Sequence[T]]
) -> list[T]:
    """The tasks for processes that take the next one whenever they are free: the largest first (Graham 1969).

    What would end last is cut, as often as there are processes, where everything then ends earlier.

    Args:
        work: of a task, in any unit of time.
        parts: that a task can be cut into; the task alone if it cannot.
    """
    if processes == 1 or not tasks:
        return list(tasks)
    best = current = sorted(tasks, key=work, reverse=True)
    for _ in range(processes):
        _, last = ending(current, processes, work)
        rest = [task for i, task in enumerate(current) if i != last]
        current = sorted([*rest, *parts(current[last])], key=work, reverse=True)
        if ending(current, processes, work)[0] < WORTHWHILE * ending(best, processes, work)[0]:
            best = current
    return best


def ending(tasks: Sequence[T], processes: int, work: Callable[[T], float]) -> tuple[float, int]:
    """When the last of the tasks ends that are taken in this order, and its index."""
    free = [0.0] * processes
    ends = []
    for task in tasks:
        ends.append(heapq.heappop(free) + work(task))
        heapq.heappush(free, ends[-1])
    return max((end, i) for i, end in enumerate(ends))
