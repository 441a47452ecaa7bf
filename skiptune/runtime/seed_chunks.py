"""Work on numbered seeds in chunks: the unit that is computed, stored and resumed.

A run is named by all that determines its bits except the range of seeds, so a longer evaluation goes on
where a shorter one stopped. Chunk ``k`` holds the seeds ``k * CHUNK .. (k + 1) * CHUNK - 1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime.memory import saying_what_fits
from skiptune.runtime.store import Run, RunStore

# Raise it whenever the code changes the bits of what a chunk holds; stored runs of another number are not
# reused. What is computed from chunks has a number of its own (evaluation/metrics.py).
NUMERICS = 2
CHUNK = 250


class SeedRun(Protocol):
    """Settings of a run over seeds: a small picklable value, such as a frozen dataclass."""

    def resolved(self) -> dict[str, Any]:
        """Plain values that name the run. Raises SkiptuneError for anything unknown or out of range."""
        ...

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """What is stored of these seeds; tensors of images begin with the dimension of the seeds."""
        ...


@runtime_checkable
class BuiltRun(Protocol):
    """A run whose chunks are made from chunks of the same number of other runs, which are computed first."""

    def resolved(self) -> dict[str, Any]:
        """As of ``SeedRun``."""
        ...

    @property
    def inputs(self) -> Mapping[str, SeedRun | BuiltRun]:
        """The other runs by name."""
        ...

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What is stored of these seeds, from what the inputs have stored of them."""
        ...


AnyRun = SeedRun | BuiltRun


def open_run(settings: AnyRun, store: RunStore) -> Run:
    """The stored or new run of these settings."""
    return store.open(settings.resolved())


@dataclass(frozen=True)
class SeedChunk:
    """The task of one chunk: compute and store. A picklable value for any worker."""

    run: Run
    settings: AnyRun
    number: int

    @property
    def path(self) -> Path:
        """The file that it makes."""
        return self.run.chunk_path(self.number)

    def __call__(self) -> None:
        seeds = range(self.number * CHUNK, (self.number + 1) * CHUNK)
        self.run.write_chunk(self.number, self.made(seeds))

    def made(self, seeds: range) -> dict[str, Tensor]:
        """What is to be stored of these seeds.

        Raises:
            SkiptuneError: an input is missing or damaged; out of memory.
        """
        settings = self.settings
        with saying_what_fits(getattr(settings, "micro_batch", None), getattr(settings, "device", "cpu")):
            return self.computed(seeds)

    def computed(self, seeds: range) -> dict[str, Tensor]:
        if not isinstance(self.settings, BuiltRun):
            return self.settings.compute(seeds)
        store = RunStore(self.run.folder.parents[1])
        inputs = {
            name: open_run(settings, store).read_chunk(self.number)
            for name, settings in self.settings.inputs.items()
        }
        return self.settings.build(seeds, inputs)


def chunk_numbers(seeds: range) -> range:
    """The chunks that hold these seeds.

    Raises:
        SkiptuneError: seeds that do not begin and end with a chunk.
    """
    if len(seeds) == 0 or seeds.start % CHUNK or len(seeds) % CHUNK or seeds.start < 0:
        raise SkiptuneError(
            f"{len(seeds)} images from seed {seeds.start} on do not fill whole chunks: first seed and "
            f"number of images (size) must be multiples of {CHUNK}"
        )
    return range(seeds.start // CHUNK, seeds.stop // CHUNK)


def read_chunks(run: Run, seeds: range) -> list[dict[str, Tensor]]:
    """The stored chunks of these seeds in order. Raises SkiptuneError for a missing or damaged one."""
    return [run.read_chunk(number) for number in chunk_numbers(seeds)]
