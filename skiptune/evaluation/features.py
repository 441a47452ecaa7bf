"""What is kept of the images after the one feature pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class FeatureSet:
    """Features [N, d] and logits [N, K], float32, of N images; labels int64 [N] if conditional."""

    features: Tensor
    logits: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = {len(x) for x in (self.features, self.logits, self.labels) if x is not None}
        if len(lengths) != 1:
            raise SkiptuneError(f"features, logits and labels differ in length ({sorted(lengths)})")

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def cat(cls, parts: Sequence[FeatureSet]) -> FeatureSet:
        """The parts one after the other. Raises SkiptuneError if there are none or only some have labels."""
        labels = [part.labels for part in parts if part.labels is not None]
        if not parts or len(labels) not in (0, len(parts)):
            raise SkiptuneError("feature sets to join must be at least one, and all or none with labels")
        return cls(
            torch.cat([part.features for part in parts]),
            torch.cat([part.logits for part in parts]),
            torch.cat(labels) if labels else None,
        )

    def blocks(self, count: int) -> list[FeatureSet]:
        """`count` consecutive blocks of equal size. Raises SkiptuneError if N is no multiple of `count`."""
        if count < 1 or len(self) % count:
            raise SkiptuneError(f"{len(self)} images do not part into {count} equal blocks: change one")
        size = len(self) // count
        return [self._rows(slice(i * size, (i + 1) * size)) for i in range(count)]

    def _rows(self, rows: slice) -> FeatureSet:
        labels = None if self.labels is None else self.labels[rows]
        return FeatureSet(self.features[rows], self.logits[rows], labels)
