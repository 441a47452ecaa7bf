"""Who plays which role: the models, features, data and seeds that a scale assigns to a table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.config_files import Config
from experiments.measurement import SeedBlocks
from experiments.references import RealImages, ReferenceFile
from experiments.samples import SampleMeasurement
from skiptune.checkpoints.models import resolve_model, where
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.protocols import Protocol
from skiptune.evaluation.scorers import ScorerRef
from skiptune.runtime.prompted import Guidance
from skiptune.runtime.sampling import SamplingSettings


@dataclass(frozen=True)
class Role:
    """One role: the configuration of its model and features, and its reference: images or a file.

    `loss_features` are the networks whose features denoising losses are taken in; `coefficients` the files
    of learned skip coefficients by variant, without their ending. `suffixes`, one per training seed, end the
    names of models that differ in nothing but that seed: each makes one of the report blocks. Of roles with
    prompts `scorer` is the configuration of a `ScorerRef`, `guidance` the scale (1: none) and
    `negative_prompt` the other half of classifier-free guidance. `micro_batch` are the images that go through
    the network together where the scale's are too many.
    """

    model: Config
    features: Config
    reference_images: int = 0
    reference: str | None = None
    reference_url: str | None = None
    loss_features: tuple[str, ...] = ()
    coefficients: Mapping[str, str] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ("",)
    scorer: Config | None = None
    guidance: float = 1.0
    negative_prompt: str | None = None
    micro_batch: int | None = None

    @property
    def description(self) -> dict[str, str]:
        """For the head of a table."""
        names = ", ".join(self.model["name"] + suffix for suffix in self.suffixes)
        return {"model": names, "data": self.model["dataset"], "features": self.features["name"]}

    @property
    def classifier_free(self) -> Guidance:
        """The guidance of its images."""
        return Guidance(self.guidance, None if self.guidance == 1 else self.negative_prompt)


@dataclass(frozen=True)
class Scale:
    """Roles, the seeds on which rho is selected and those on which results are reported, defaults by name.

    Attributes:
        samplers, extractors: the configurations of ``configs/sampler`` and ``configs/features`` by name.
        protocol: how the seed blocks of samples become the reported number.
        micro_batch: images that go through a network together; None: ``auto``, see `experiments/fitting.py`.
        prompts: which ones text-to-image roles get, see `experiments/importance_probe/prompts.py`.
        probe, probes: the Importance Probe's name, and the constants of ``configs/probe`` by name.
    """

    name: str
    roles: Mapping[str, Role]
    select: SeedBlocks
    report: SeedBlocks
    micro_batch: int | None
    noise_device: str
    samplers: Mapping[str, Config]
    extractors: Mapping[str, Config]
    checkpoints: Path
    device: str
    protocol: Protocol
    precision: str = "fp32"
    compile: bool = False
    prompts: Config = field(default_factory=dict)
    probe: str = "released"
    probes: Mapping[str, Config] = field(default_factory=dict)

    def role(self, name: str) -> Role:
        """The role of that name. Raises SkiptuneError, listing the known ones, if the scale has none."""
        return named(name, self.roles, f"role at scale {self.name}")

    def batch_of(self, role_name: str) -> int:
        """Images that go through the network of a role together. Raises SkiptuneError if none was chosen."""
        sizes = [size for size in (self.role(role_name).micro_batch, self.micro_batch) if size is not None]
        if not sizes:
            raise SkiptuneError(
                f"micro_batch=auto chooses when rows of samples are computed, of which {role_name} has none "
                f"here: give scale.roles.{role_name}.micro_batch a number"
            )
        return min(sizes)

    def sampler(self, settings: Config) -> dict[str, Any]:
        """Sampler settings of a row over the defaults of ``configs/sampler``."""
        return {**named(settings["name"], self.samplers, "sampler"), **settings}

    def extractor(self, role_name: str, name: str | None = None) -> ExtractorRef:
        """The role's own features, or others by name. Raises SkiptuneError if their file is missing."""
        config = self.role(role_name).features if name is None else named(name, self.extractors, "features")
        return ExtractorRef.resolve(config, self.checkpoints)

    def scorer(self, role_name: str) -> ScorerRef:
        """The role's scorer of images and prompts.

        Raises:
            SkiptuneError: a role that has none, or its file is missing.
        """
        scorer = self.role(role_name).scorer
        if scorer is None:
            raise SkiptuneError(f"role {role_name} of scale {self.name} has no scorer of images and prompts")
        return ScorerRef.resolve(scorer, self.checkpoints)

    def sampling(
        self, role_name: str, sampler: Config, intervention: Config, features: str | None = None
    ) -> SamplingSettings:
        """The sampling run of one condition. Raises SkiptuneError if a file that it needs is missing."""
        return SamplingSettings(
            model=resolve_model(self.role(role_name).model, self.checkpoints),
            sampler=self.sampler(sampler),
            intervention=dict(intervention),
            features=self.extractor(role_name, features),
            micro_batch=self.batch_of(role_name),
            device=self.device,
            noise_device=self.noise_device,
            precision=self.precision,
            compile=self.compile,
        )

    def reference(self, role_name: str, features: ExtractorRef) -> RealImages | ReferenceFile:
        """The real images of a role. Raises SkiptuneError if their file is missing."""
        role = self.role(role_name)
        if role.reference is not None:
            return ReferenceFile(self.checkpoints / role.reference, where(role.reference_url))
        return RealImages(role.model["dataset"], role.reference_images, features, self.device)

    def samples(
        self,
        role_name: str,
        sampler: Config,
        intervention: Config,
        blocks: SeedBlocks,
        metrics: tuple[str, ...],
        features: str | None = None,
    ) -> SampleMeasurement:
        """The metrics of samples of one condition. Raises SkiptuneError if a file is missing."""
        settings = self.sampling(role_name, sampler, intervention, features)
        return SampleMeasurement(settings, blocks, self.reference(role_name, settings.features), metrics)

    def of_trained(self, role_name: str) -> tuple[Scale, ...]:
        """This scale for every training seed of a role: models of that seed, its share of the report seeds.

        Of every role trained on the same seeds, so that a measurement of several compares like with like.

        Roles of the same suffixes follow: what compares models compares those of one training seed.

        Raises:
            SkiptuneError: other than one report block for each of several training seeds.
        """
        role, blocks = self.role(role_name), self.report
        if len(role.suffixes) == 1:
            return (self,)
        if blocks.count != len(role.suffixes):
            raise SkiptuneError(
                f"seeds.report.count is {blocks.count}, but {role_name} has models of "
                f"{len(role.suffixes)} training seeds, each of which makes one block; set it to their number"
            )
        return tuple(
            replace(
                self,
                roles={
                    name: replace(other, model=suffixed(other.model, suffix))
                    if other.suffixes == role.suffixes
                    else other
                    for name, other in self.roles.items()
                },
                report=SeedBlocks(blocks.first + i * blocks.size, 1, blocks.size),
            )
            for i, suffix in enumerate(role.suffixes)
        )

    def with_seeds(self, seeds: Mapping[str, Config]) -> Scale:
        """This scale with other ``select`` or ``report`` blocks. Raises SkiptuneError if they overlap."""
        blocks = {key: SeedBlocks.of(value) for key, value in seeds.items()}
        blocks = disjoint({"select": self.select, "report": self.report, **blocks})
        self.protocol.check(blocks["report"].count)
        return replace(self, select=blocks["select"], report=blocks["report"])


def suffixed(model: Config, suffix: str) -> dict[str, Any]:
    """The same model from another training seed, as ``scripts/train.py suffix=...`` exports it.

    Raises:
        SkiptuneError: a published model, of which there is one.
    """
    if not suffix:
        return dict(model)
    if model["kind"] not in ("desk", "trained"):
        raise SkiptuneError(
            f"model {model['name']} is published: only models trained here have training seeds"
        )
    file = Path(model.get("file", ""))
    files = {"file": str(file.with_name(f"{file.stem}{suffix}{file.suffix}"))} if file.name else {}
    return {**model, "name": model["name"] + suffix, **files}


def named(name: str, known: Mapping[str, Any], what: str) -> Any:
    """The entry of that name. Raises SkiptuneError, listing the known ones, if there is none."""
    if name not in known:
        raise SkiptuneError(f"no {what} is called {name!r}; there are {', '.join(known)}")
    return known[name]


def disjoint(blocks: Mapping[str, SeedBlocks]) -> dict[str, SeedBlocks]:
    """Seed blocks ``select`` and ``report`` if they share no seed, else SkiptuneError."""
    unknown = set(blocks) - {"select", "report"}
    if unknown:
        raise SkiptuneError(f"seeds are those of select and of report, not {', '.join(sorted(unknown))}")
    select, report = blocks["select"], blocks["report"]
    if max(select.seeds.start, report.seeds.start) < min(select.seeds.stop, report.seeds.stop):
        raise SkiptuneError(
            "seeds.select and seeds.report overlap: what is selected on seeds cannot be reported on them"
        )
    return dict(blocks)
