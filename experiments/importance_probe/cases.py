"""Independent cases of a study on blocks: a network and a prompt each, one value per case."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from experiments.importance_probe.prompt_run import cached_scorer
from experiments.importance_probe.prompts import PromptList, prompt_list
from experiments.measurement import Evaluated, SeedBlocks
from experiments.scale import Scale
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.denoisers import Denoiser, build_denoiser
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError
from skiptune.evaluation.scorers import ScorerRef
from skiptune.runtime.files import canonical_json, digest
from skiptune.runtime.prompted import Guidance, prompted_model
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, SeedRun, open_run, read_chunks
from skiptune.runtime.store import RunStore

UNTRAINED = "untrained"  # a kind of model: random weights, another draw in every case
PROMPT = "a red letter K on white"  # of untrained networks
PER_CHUNK = 5  # cases that a chunk of a run holds


@dataclass(frozen=True, eq=False)
class Case:
    """One network with one prompt.

    Attributes:
        decode: samples -> images ``[N, 3, H, W]``.
        score: uint8 images of the prompt -> scores ``[N]``, higher is better; None where there is no scorer.
    """

    denoiser: Denoiser
    decode: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor] | None

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device


class Networks(Protocol):
    """Where cases come from; a picklable value."""

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the cases, as plain values."""
        ...

    def case(self, number: int) -> Case: ...


@dataclass(frozen=True)
class UntrainedNetworks:
    """Random weights by the number of the case, of the prompt's encoder too."""

    name: str
    description: str  # of the network, as canonical JSON

    @property
    def identity(self) -> dict[str, Any]:
        own = {"name": self.name, "denoiser": digest(self.description), "kind": UNTRAINED}
        return {"model": own, "prompt": PROMPT}

    def case(self, number: int) -> Case:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            network = build_denoiser(json.loads(self.description)).eval().requires_grad_(False)
        if not isinstance(network, TextToImage):
            raise SkiptuneError(f"model {self.name} takes no prompts; choose a text-to-image model")
        return Case(network.prompted([PROMPT]), lambda x: x, None)


@dataclass(frozen=True)
class TrainedNetwork:
    """One trained network, another of the prompts in every case."""

    model: ModelRef
    prompts: PromptList
    guidance: Guidance
    scorer: ScorerRef | None
    device: str

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "guidance": self.guidance.identity,
            "scorer": None if self.scorer is None else self.scorer.identity,
            "device": self.device,
        }

    def case(self, number: int) -> Case:
        text = self.prompts.texts[number % len(self.prompts.texts)]
        made = prompted_model(self.model, self.device, [text], self.guidance)
        score = None
        if (scorer := self.scorer) is not None:

            def score(images: Tensor) -> Tensor:
                return cached_scorer(scorer, self.device)(images, [text] * len(images))

        return Case(made.of([0]), made.decode, score)


def networks_of(scale: Scale, role_name: str) -> Networks:
    """The networks of a role. Raises SkiptuneError if a file is missing."""
    role = scale.role(role_name)
    if role.model["kind"] == UNTRAINED:
        return UntrainedNetworks(role.model["name"], canonical_json(role.model["denoiser"]))
    model = resolve_model(role.model, scale.checkpoints)
    scorer = None if role.scorer is None else ScorerRef.resolve(role.scorer, scale.checkpoints)
    return TrainedNetwork(model, prompt_list(scale), role.classifier_free, scorer, scale.device)


@dataclass(frozen=True)
class CaseBlocks(SeedBlocks):
    """All of ``cases``; a chunk of seeds stands for ``PER_CHUNK`` of them."""

    cases: int = 0

    @classmethod
    def of(cls, cases: int) -> CaseBlocks:
        """Raises SkiptuneError for a number that does not fill chunks."""
        if cases < 1 or cases % PER_CHUNK:
            raise SkiptuneError(f"{cases} cases do not fill whole chunks: give a multiple of {PER_CHUNK}")
        return cls(0, 1, cases // PER_CHUNK * CHUNK, cases)

    @staticmethod
    def cases_of(seeds: range) -> range:
        """The cases that the seeds of a chunk stand for."""
        first = seeds.start // CHUNK * PER_CHUNK
        return range(first, first + PER_CHUNK)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        return ((0, self.cases - 1),)


@dataclass(frozen=True)
class CaseMeans:
    """One value per case: the metric ``<name>`` is what the run stores under ``<prefix>_<name>``.

    Network evaluations are stored as ``calls``.
    """

    unit: ClassVar[str] = "cases"

    settings: SeedRun
    blocks: CaseBlocks
    metrics: tuple[str, ...]
    prefix: str

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "case means",
            "numerics": NUMERICS,
            "run": self.settings.resolved(),
            "cases": self.blocks.cases,
            "prefix": self.prefix,
            "metrics": sorted(self.metrics),
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        values = {name: self.stored(name, store).tolist() for name in sorted(self.metrics)}
        return Evaluated(values, float(self.stored("calls", store).mean()))

    def stored(self, name: str, store: RunStore) -> Tensor:
        """``[cases, ...]``. Raises SkiptuneError for a metric that there is not."""
        chunks = read_chunks(open_run(self.settings, store), self.blocks.seeds)
        own = f"{self.prefix}_{name}"
        if own not in chunks[0]:
            known = [key for key in sorted(chunks[0]) if key.startswith(self.prefix)]
            raise SkiptuneError(f"no metric {name!r} of {self.prefix}: stored are {', '.join(known)}")
        return torch.cat([chunk[own] for chunk in chunks])
