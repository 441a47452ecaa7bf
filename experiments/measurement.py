"""What a measurement is: a run over seeds, evaluated block by block into named values, kept as one record."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.values import Value
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import (
    paired_difference_interval,
    paired_ratio_interval,
    share_interval,
)
from skiptune.evaluation.metrics import METRICS
from skiptune.evaluation.protocols import Protocol, get_protocol
from skiptune.runtime.seed_chunks import AnyRun, chunk_numbers
from skiptune.runtime.store import RunStore

UNBIASED = get_protocol("unbiased")


@dataclass(frozen=True)
class SeedBlocks:
    """``count`` consecutive blocks of ``size`` seeds from ``first`` on; a metric is computed per block."""

    first: int
    count: int
    size: int

    def __post_init__(self) -> None:
        for name, value in (("first", self.first), ("count", self.count), ("size", self.size)):
            if type(value) is not int:
                raise SkiptuneError(f"{name} of the seed blocks is {value!r}, it must be a whole number")
        if self.count < 1:
            raise SkiptuneError(f"{self.count} seed blocks: use at least 1, and 2 or more for an interval")
        chunk_numbers(range(self.first, self.first + self.size))

    @classmethod
    def of(cls, settings: Any) -> SeedBlocks:
        """From ``{"first", "count", "size"}``. Raises SkiptuneError for anything else."""
        try:
            return cls(**settings)
        except TypeError as error:
            raise SkiptuneError(f"seed blocks are {{first, count, size}}, not {settings!r}") from error

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count * self.size)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First and last seed of every block."""
        starts = range(self.first, self.first + self.count * self.size, self.size)
        return tuple((start, start + self.size - 1) for start in starts)


@dataclass(frozen=True)
class Evaluated:
    """The values of every metric, one per seed block, and the measured network evaluations per image.

    ``chosen``: settings that the run found by itself, such as the blocks that a ranking named.
    """

    values: Mapping[str, list[float]]
    nfe: float
    chosen: Mapping[str, Any] = field(default_factory=dict)


class Measurement(typing.Protocol):
    """One condition on some seeds. The kinds of measurement are in ``experiments/registry.py``."""

    @property
    def settings(self) -> AnyRun:
        """The run whose chunks are computed."""
        ...

    @property
    def blocks(self) -> SeedBlocks: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the values, as plain values."""
        ...

    def evaluate(self, store: RunStore) -> Evaluated:
        """The values, from the stored chunks."""
        ...


@dataclass(frozen=True)
class Result:
    """What was measured: block values per metric, measured NFE, hashes of record and run.

    ``others`` are the further results that it was joined from; ``chosen`` is as of ``Evaluated``.
    """

    record: str
    run: str
    nfe: int
    blocks: dict[str, list[float]]
    bounds: tuple[tuple[int, int], ...]
    images_per_second: float | None
    seconds: float
    provenance: dict[str, Any]
    others: tuple[Result, ...] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, identity: str, record: dict[str, Any] | None) -> Result:
        """The result that a stored record holds. Raises SkiptuneError if there is none."""
        if record is None:
            raise SkiptuneError(
                f"record {identity} does not show in the store; look at the messages of the other processes"
            )
        return cls(
            record=identity,
            run=record["run"],
            nfe=round(record["nfe"]),
            blocks=record["values"],
            bounds=tuple((first, last) for first, last in record["seeds"]),
            images_per_second=record["images_per_second"],
            seconds=record["seconds"],
            provenance=record["provenance"],
            chosen=record.get("chosen", {}),
        )

    @classmethod
    def joined(cls, parts: Sequence[Result]) -> Result:
        """The blocks of several results one after the other, as one; a single one as it is.

        Raises:
            SkiptuneError: their measured NFE differ.
        """
        first, *others = parts
        if not others:
            return first
        if any(other.nfe != first.nfe for other in others):
            raise SkiptuneError(f"runs that make one row took {[part.nfe for part in parts]} evaluations")
        return replace(
            first,
            blocks={name: [v for part in parts for v in part.blocks[name]] for name in first.blocks},
            bounds=tuple(bounds for part in parts for bounds in part.bounds),
            others=tuple(others),
        )

    @property
    def parts(self) -> tuple[Result, ...]:
        """All results that it was joined from, each with its own record, seconds and provenance."""
        return (self, *self.others)

    def value(self, metric: str, protocol: Protocol = UNBIASED) -> Value:
        """What the protocol reports of the blocks; unless given, their mean with its 95% interval."""
        lower = metric not in METRICS or METRICS[metric].lower_is_better
        found = protocol.reduce(self.blocks[metric], lower)
        return Value(found.value, found.low, found.high, found.n, self.bounds)

    def share(self, metric: str) -> Value:
        """The mean of a metric that holds or does not, with Wilson's 95% interval."""
        values = self.blocks[metric]
        if len(values) == 1:
            return Value(values[0], None, None, 1, self.bounds)
        found = share_interval(values)
        return Value(found.value, found.low, found.high, found.n, self.bounds)

    def over(self, base: Result, metric: str, ratio: bool = False) -> Value:
        """The metric less that of another result, or divided by it, with the 95% interval of the pairs.

        Raises:
            SkiptuneError: the blocks do not pair, or a ratio of values that are not positive.
        """
        own, other = self.blocks[metric], base.blocks[metric]
        if len(own) == 1:
            return Value(own[0] / other[0] if ratio else own[0] - other[0], None, None, 1, self.bounds)
        found = (paired_ratio_interval if ratio else paired_difference_interval)(own, other)
        return Value(found.value, found.low, found.high, found.n, self.bounds)
