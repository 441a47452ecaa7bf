"""Importance of the blocks for every prompt, by the probe or by the direct measure (Table II)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.importance_probe.prompts import SPLITS, PromptList
from skiptune.checkpoints.models import ModelRef
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.importance import (
    Importance,
    ProbeSettings,
    Teacher,
    ablation_errors,
    run_probe,
)
from skiptune.importance.probe import StepDone
from skiptune.interventions.blocks import find_transformer_blocks
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.prompted import Guidance, prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS
from skiptune.samplers import Sampler, initial_noise, make_sampler

PROBE, ABLATION = "probe", "ablation"
RANKINGS = (PROBE, ABLATION)


@dataclass(frozen=True)
class RankingRun:
    """Stored for every image: ``scores`` ``[N, S, m]``, the importance of the blocks for its prompt, found
    with the noise of one split; ``numbers`` of the blocks ``[N, m]``; ``nfe``, the network evaluations.

    Attributes:
        ranking: ``probe``, or ``ablation``: the error of the noise prediction where a block is skipped.
        split: whose noise, 0 or 1.
        probe: its constants; unused by ``ablation``.
        own_draws: whether every prompt's probe draws its own numbers; in the released program all draw the
            same.
    """

    stored: ClassVar[str] = "scores"

    model: ModelRef
    prompts: PromptList
    guidance: Guidance
    sampler: Mapping[str, Any]
    ranking: str
    micro_batch: int
    device: str
    probe: ProbeSettings
    own_draws: bool
    split: int = 0

    def __post_init__(self) -> None:
        if self.ranking not in RANKINGS:
            raise SkiptuneError(f"unknown ranking {self.ranking!r}; choose one of {', '.join(RANKINGS)}")

    def resolved(self) -> dict[str, Any]:
        probe = {"probe": plain(asdict(self.probe)), "own_draws": self.own_draws}
        return {
            "kind": "importance of blocks",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "guidance": self.guidance.identity,
            "sampler": sampler_identity(self.sampler),
            "ranking": self.ranking,
            "split": self.split,
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            **(probe if self.ranking == PROBE else {}),
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        prompts = self.prompts.prompts(seeds)
        texts = [self.prompts.texts[j] for j in prompts]
        made = prompted_model(self.model, self.device, texts, self.guidance)
        sampler = make_sampler(**self.sampler)
        scores, calls = [], []
        for row, prompt in enumerate(prompts):
            denoiser = made.of([row])
            noise, _ = initial_noise([self.prompts.prompt_seed(prompt, self.split)], denoiser.image_shape)
            found, students = self.importance(denoiser, sampler, noise, prompt)
            scores.append(found.scores)
            calls.append(float(self.guidance.copies * (students + sampler.num_steps)))
        images = len(self.prompts.numbers(seeds))
        both = torch.arange(images) // len(SPLITS)
        numbers = torch.tensor([block.number for block in find_transformer_blocks(made.denoiser)])
        return {
            "scores": torch.stack(scores)[both],
            "numbers": numbers.expand(images, -1).contiguous(),
            "nfe": torch.tensor(calls)[both],
        }

    def importance(
        self, denoiser: Denoiser, sampler: Sampler, noise: Tensor, prompt: int
    ) -> tuple[Importance, int]:
        """Of the blocks for one prompt, and the students that the network was asked about."""
        if self.ranking == ABLATION:
            teacher = Teacher(denoiser, sampler, noise, batch=self.micro_batch)
            return Importance.of_errors(ablation_errors(teacher)), teacher.evaluations
        asked, say = 0, noted(f"probe of prompt {prompt}", self.probe, sampler.num_steps)

        def on_step(done: StepDone) -> None:
            nonlocal asked
            asked += done.evaluated
            say(done)

        seed = self.probe.seed + (prompt if self.own_draws else 0)
        settings = replace(self.probe, seed=seed)
        state = run_probe(denoiser, sampler, noise, settings, batch=self.micro_batch, on_step=on_step)
        return Importance.of_thresholds(state.current, settings), asked


def noted(label: str, probe: ProbeSettings, steps: int, every: float = 60.0) -> Callable[[StepDone], None]:
    """Says on stderr, at most every so many seconds, how far a long probe is: a chunk is many of them."""
    last = time.monotonic()

    def say(done: StepDone) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(
                f"{label}: iteration {done.iteration + 1} of {probe.iterations}, "
                f"step {done.step + 1} of {steps}, "
                f"{done.accepted} of {done.runs} runs accepted",
                file=sys.stderr,
                flush=True,
            )

    return say


def plain(value: Any) -> Any:
    """Tuples as lists."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
