"""Values that every prompt has of its own: means over prompts, with intervals over prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.prompts import SPLITS, PromptBlocks, PromptList
from experiments.measurement import Evaluated, SeedBlocks
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import NUMERICS, AnyRun, open_run, read_chunks
from skiptune.runtime.store import RunStore

AVERAGE = "avg"  # over all categories
CATEGORIES = ("anime", "concept_art", "paintings", "photo")  # of the paper, in the order of the scale's


@dataclass(frozen=True)
class PromptMeans:
    """One value per prompt and metric, from what a run stores of its images.

    A metric is ``<quantity>``, the mean of a prompt's images in both splits, or ``<category>_<split>``, the
    ``quantity`` named here of the images of one split and category (``avg``: of all). ``unit``: what there is
    one value of.
    """

    settings: AnyRun
    prompts: PromptList
    metrics: tuple[str, ...]
    quantity: str = "score"
    unit: str = "prompts"

    @property
    def blocks(self) -> PromptBlocks:
        return PromptBlocks.of_list(self.prompts)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "prompt means",
            "numerics": NUMERICS,
            "run": self.settings.resolved(),
            "images": self.prompts.images,
            "quantity": self.quantity,
            "metrics": sorted(self.metrics),
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        stored = joined(self.settings, self.blocks, store)
        values = {name: self.series(name, stored) for name in sorted(self.metrics)}
        return Evaluated(values, float(stored["nfe"].double().mean()) if "nfe" in stored else 0.0)

    def series(self, metric: str, stored: dict[str, Tensor]) -> list[float]:
        """The values of a metric, one per prompt.

        Raises:
            SkiptuneError: nothing of that name is stored.
        """
        if metric in stored:
            return [float(value) for value in stored[metric].double().unflatten(0, (-1, len(SPLITS))).mean(1)]
        category, _, split = metric.rpartition("_")
        if split not in SPLITS or category not in (*CATEGORIES, AVERAGE):
            known = ", ".join(sorted(name for name, value in stored.items() if value.dim() == 1))
            raise SkiptuneError(f"no metric {metric!r} of prompts; there are {known} and category_split")
        own = stored[self.quantity].double()[SPLITS.index(split) :: len(SPLITS)]
        if category != AVERAGE:
            own = own[CATEGORIES.index(category) :: len(self.prompts.categories)]
        return [float(value) for value in own]


def joined(settings: AnyRun, blocks: SeedBlocks, store: RunStore) -> dict[str, Tensor]:
    """What a run has stored of all images, one after the other."""
    chunks = read_chunks(open_run(settings, store), blocks.seeds)
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
