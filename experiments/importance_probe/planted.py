"""Is it importance? Rankings of blocks against blocks of planted importance and against direct measures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.cases import Case, CaseBlocks, CaseMeans, Networks, networks_of
from experiments.importance_probe.planting import planted, shuffled
from experiments.importance_probe.rankings import PROBES, RANKINGS, Ranking
from experiments.importance_probe.truths import IMAGES, direct_measures
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.importance import rank_agreement
from skiptune.importance.votes import positions
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import NUMERICS
from skiptune.samplers import initial_noise, make_sampler

FIRST_SEED = 42  # of the probe's draws in the first case, as in the paper; then one more each
FIRST_NOISE = 800_000_000  # seeds of the noises, no other run's
MOST_BLOCKS = 7  # of a network of the SD family


@dataclass(frozen=True)
class PlantedRun:
    """All rankings of every case, a network with a prompt and the gains planted in an order of its own.

    Stored for every case:

    - ``<ranking>_<measure>``: Kendall's tau of the two, mean over the steps; measures as
      ``direct_measures``, and ``planted``, the gains, unless there are none;
    - ``<ranking>_dead``, ``<ranking>_essential``: share of the steps at which the block of the lowest gain
      was ranked least important, that of the highest most;
    - ``<ranking>_places``: mean place, from 1, of the block with the k-th lowest gain ``[cases, m]``;
    - ``<ranking>_calls``, ``<ranking>_accepted``, ``<ranking>_skipping``: as of ``Ranking``.
    """

    networks: Networks
    gains: tuple[float, ...]
    sampler: Mapping[str, Any]

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "planted importance",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "networks": self.networks.identity,
            "gains": list(self.gains),
            "sampler": sampler_identity(self.sampler),
            "images": IMAGES,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        rows = [self.values(case) for case in CaseBlocks.cases_of(seeds)]
        return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}

    def values(self, number: int) -> dict[str, float | list[float]]:
        """Of one case."""
        found: dict[str, float | list[float]] = {}
        with self.case(number) as (case, gains):
            sampler = make_sampler(**self.sampler).fitted(case.denoiser)
            first = FIRST_NOISE + number * (IMAGES + 1)
            seeds = range(first, first + IMAGES + 1)
            noise = initial_noise(seeds, case.denoiser.image_shape)[0].to(case.device)
            truths = direct_measures(case, sampler, noise[1:])
            if gains is not None:
                truths["planted"] = gains.expand(sampler.num_steps, -1)
            for name, rank in RANKINGS.items():
                ranking = rank(case.denoiser, sampler, noise[:1], FIRST_SEED + number)
                found |= {f"{name}_{key}": value for key, value in judged(ranking, truths).items()}
        return found

    @contextlib.contextmanager
    def case(self, number: int) -> Iterator[tuple[Case, Tensor | None]]:
        """The case of that number, and the gains planted in it ``[m]``, if any."""
        case = self.networks.case(number)
        if not self.gains:
            yield case, None
            return
        gains = shuffled(self.gains, number)
        with planted(case.denoiser, gains):
            yield case, torch.tensor(gains, dtype=torch.float64)


def judged(ranking: Ranking, truths: Mapping[str, Tensor]) -> dict[str, float | list[float]]:
    """How far a ranking follows what is true ``[S, m]`` by name, as ``PlantedRun`` says."""
    votes = ranking.votes
    found: dict[str, float | list[float]] = {
        name: float(rank_agreement(votes, truth).mean()) for name, truth in truths.items()
    }
    found["calls"] = float(ranking.calls)
    if ranking.accepted is not None and ranking.skipping is not None:
        found |= {"accepted": ranking.accepted, "skipping": ranking.skipping}
    if "planted" in truths:
        order = truths["planted"][0].argsort()
        places = positions(votes).to(torch.float64)[:, order]
        found["places"] = places.mean(dim=0).tolist()
        found["dead"] = float((places[:, 0] == 1).double().mean())
        found["essential"] = float((places[:, -1] == votes.shape[-1]).double().mean())
    return found


def planted_importance(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> CaseMeans:
    """``measure: {kind: planted_importance, ranking, gains, cases}``; metrics as ``PlantedRun`` stores them.

    One value per case. Rows that differ in the ranking alone are one run. Without gains nothing is planted.
    NFE are the network evaluations that the ranking took.
    """
    spec = measure_section(row)
    ranking = spec.choice("ranking", tuple(RANKINGS))
    gains: Sequence[float] = spec.floats("gains")
    cases = spec.take("cases", int)
    spec.finish()
    run = PlantedRun(networks_of(scale, row.role), tuple(gains), scale.sampler(row.sampler))
    return CaseMeans(run, CaseBlocks.of(cases), metrics, ranking)


def images(scale: Scale, row: RowConfig) -> int:
    """The cases of a row."""
    return int(row.measure["cases"])


def evaluations(scale: Scale, row: RowConfig) -> float:
    """Of a case at the most: all rankings, and the direct measures."""
    steps, blocks = make_sampler(**scale.sampler(row.sampler)).num_steps, MOST_BLOCKS
    students = sum(one.runs * (one.iterations * one.candidates + 1) for one in PROBES.values())
    direct = 2 * (blocks + 1) + IMAGES * (2 * blocks + 1 + blocks * (steps + 1) / 2)
    return steps * (students + direct)
