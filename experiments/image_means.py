"""Quantities that every seed has of its own (losses, norms): a block's value is their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.measurement import Evaluated, SeedBlocks
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import NUMERICS, AnyRun, open_run, read_chunks
from skiptune.runtime.store import RunStore


@dataclass(frozen=True)
class ImageMeans:
    """Means over seed blocks of the tensors ``[N]`` that a run stores under the names of the metrics.

    ``stored`` gives the tensor's name where it is not that of the metric. The run's chunks may hold ``nfe
    [N]``, network evaluations per image (or ``stored`` names what does); without it there are none.
    """

    settings: AnyRun
    blocks: SeedBlocks
    metrics: tuple[str, ...]
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "image means",
            "numerics": NUMERICS,
            "run": self.settings.resolved(),
            "seeds": [list(bounds) for bounds in self.blocks.bounds],
            "metrics": {name: self.stored.get(name, name) for name in sorted(self.metrics)},
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        chunks = read_chunks(open_run(self.settings, store), self.blocks.seeds)
        names = {name: self.stored.get(name, name) for name in sorted(self.metrics)}
        if unknown := [name for name in names.values() if name not in chunks[0]]:
            raise SkiptuneError(f"no quantity {unknown[0]!r} here; there are {', '.join(sorted(chunks[0]))}")
        values = {}
        for name, tensor in names.items():
            joined = torch.cat([chunk[tensor].double() for chunk in chunks])
            values[name] = [float(block.mean()) for block in joined.split(self.blocks.size)]
        calls = self.stored.get("nfe", "nfe")
        nfe = torch.cat([chunk[calls] for chunk in chunks]).double().mean() if calls in chunks[0] else 0
        return Evaluated(values, float(nfe))
