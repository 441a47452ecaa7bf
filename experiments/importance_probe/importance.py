"""Rankings of transformer blocks (Importance Probe, Table II, and the importance of every block by step)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from experiments.importance_probe.prompt_means import PromptMeans
from experiments.importance_probe.prompt_scores import prompts_per_category, ranking_run
from experiments.importance_probe.prompts import PromptList, one_prompt, prompt_list
from experiments.importance_probe.rank_facts import RankFacts, places
from experiments.importance_probe.ranking_run import PROBE, RANKINGS
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

ANOTHER = 1_000_000  # between the draws of two independent probes
OF_BLOCKS = ("position", "importance")  # metrics that take one ranking
PROBES = "probes of one prompt"


@dataclass(frozen=True)
class RankMeans(PromptMeans):
    """Of a ranking ``position_<number>`` or ``importance_<number>`` of a block, as the paper counts them, at
    the step ``step``; of ``RankFacts`` also its facts."""

    step: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        return {**super().identity, "step": self.step}

    def series(self, metric: str, stored: dict[str, Tensor]) -> list[float]:
        """Raises SkiptuneError for a block or step that there is not."""
        kind, _, number = metric.partition("_")
        if kind not in OF_BLOCKS:
            return super().series(metric, stored)
        numbers = stored["numbers"][0].tolist()
        if not number.isdigit() or int(number) not in numbers:
            raise SkiptuneError(f"no block of {metric!r}: the network has {numbers[0]} to {numbers[-1]}")
        values = places(stored["scores"]) if kind == "position" else stored["scores"]
        if not 0 <= self.step < values.shape[1]:
            raise SkiptuneError(f"there is no step {self.step}: there are {values.shape[1]}")
        own = values[:, self.step, numbers.index(int(number))]
        return super().series("own", {"own": own})


def importance(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> RankMeans:
    """``measure: {kind: importance, ranking, probe, step, prompts: {scale: number per category}}``, or
    ``prompt, probes`` in place of ``prompts``.

    With ``prompt``, a text by scale, ``probes`` independent probes of that one prompt take the place of the
    prompts. A second ranking, for what two independent ones have in common, has other draws in the probe and
    other noise, that of the split ``test``, in the direct measure, which draws nothing.
    """
    spec = measure_section(row)
    ranking, step = spec.choice("ranking", RANKINGS), spec.optional("step", int, 0)
    prompts, own_draws = listed(spec, scale)
    first = ranking_run(scale, row, prompts, ranking, spec, own_draws)
    spec.finish()
    if all(metric.partition("_")[0] in OF_BLOCKS for metric in metrics):
        unit = PROBES if "prompt" in spec.data else "prompts"
        return RankMeans(first, prompts, metrics, unit=unit, step=step)
    if ranking == PROBE:
        second = replace(first, probe=replace(first.probe, seed=first.probe.seed + ANOTHER))
    else:
        second = replace(first, split=1)
    return RankMeans(RankFacts(first, second), prompts, metrics, step=step)


def listed(spec: Section, scale: Scale) -> tuple[PromptList, bool | None]:
    """The prompts, or one as often as it is probed, with draws of its own every time."""
    if "prompt" not in spec.data:
        return prompt_list(scale, prompts_per_category(spec, scale)), None
    text = Section(spec.take("prompt", Mapping), f"{spec.where}.prompt").take(scale.name, str)
    probes = spec.take("probes", int)
    if probes < 2:
        raise SkiptuneError(f"{spec.where}.probes is {probes}, independent probes are at least 2")
    return one_prompt(scale, text, probes), True
