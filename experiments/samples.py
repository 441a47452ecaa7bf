"""Generated images against real ones: every metric of a row from the kept features of one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.measurement import Evaluated, SeedBlocks
from experiments.references import RealImages, ReferenceFile, cached_reference
from skiptune.errors import SkiptuneError
from skiptune.evaluation.metrics import METRIC_NUMERICS, METRICS, check_metrics, compute_metrics
from skiptune.runtime.sampling import Samples, SamplingSettings, read_samples
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import RunStore

# Accuracy and the Inception Score say nothing about the reference; of the others, real images have a value.
FLOOR_METRICS = frozenset(METRICS) - {"accuracy", "is"}


@dataclass(frozen=True)
class SampleMeasurement:
    """Metrics of the samples of one condition, block by block, against a reference."""

    settings: SamplingSettings
    blocks: SeedBlocks
    real: RealImages | ReferenceFile
    metrics: tuple[str, ...] = ("fid",)

    def __post_init__(self) -> None:
        if not self.metrics:
            raise SkiptuneError("no metrics given: name at least one")
        check_metrics(self.metrics, {"labels", "logits", *self.real.available})

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "measurement",
            "numerics": METRIC_NUMERICS,
            "sampling": self.settings.resolved(),
            "seeds": [list(bounds) for bounds in self.blocks.bounds],
            "reference": self.real.identity,
            "metrics": sorted(self.metrics),
        }

    @property
    def floor_images(self) -> RealImages | None:
        """Real images to compare with real images, if there are any."""
        return self.real if isinstance(self.real, RealImages) else None

    def evaluate(self, store: RunStore) -> Evaluated:
        samples = self.samples(store)
        reference = cached_reference(self.real, store)
        found: Sequence[Mapping[str, float]] = [
            compute_metrics(sorted(self.metrics), block, reference)
            for block in samples.features.blocks(self.blocks.count)
        ]
        return Evaluated(
            {name: [values[name] for values in found] for name in sorted(self.metrics)}, samples.nfe
        )

    def samples(self, store: RunStore) -> Samples:
        """The stored features and first images."""
        return read_samples(open_run(self.settings, store), self.blocks.seeds)
