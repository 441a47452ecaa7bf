"""Who plays which role: the models, features, data and seeds that a scale assigns to a table's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.measurement import Measurement, SeedBlocks
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.evaluation import load_extractor
from skiptune.runtime.sampling import SamplingSettings


@dataclass(frozen=True)
class Role:
    """One role: the configuration of its model and features, and its reference images."""

    model: Mapping[str, Any]
    features: Mapping[str, Any]
    reference_images: int = 0
    reference: str | None = None
    reference_url: str | None = None

    @property
    def description(self) -> dict[str, str]:
        """For the head of a table."""
        return {"model": self.model["name"], "data": self.model["dataset"], "features": self.features["name"]}


@dataclass(frozen=True)
class Scale:
    """Roles, the seeds on which rho is selected and those on which results are reported, sampler defaults."""

    name: str
    roles: Mapping[str, Role]
    select: SeedBlocks
    report: SeedBlocks
    micro_batch: int
    noise_device: str
    samplers: Mapping[str, Mapping[str, Any]]
    checkpoints: Path
    device: str

    def role(self, name: str) -> Role:
        """The role of that name. Raises SkiptuneError, listing the known ones, if the scale has none."""
        if name not in self.roles:
            raise SkiptuneError(
                f"scale {self.name} gives nobody the role {name!r}; roles: {', '.join(self.roles)}"
            )
        return self.roles[name]

    def sampler(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Sampler settings of a row over the defaults of ``configs/sampler``."""
        if settings["name"] not in self.samplers:
            raise SkiptuneError(
                f"no configuration for sampler {settings['name']!r}; there are {', '.join(self.samplers)}"
            )
        return {**self.samplers[settings["name"]], **settings}

    def measurement(
        self,
        role_name: str,
        sampler: Mapping[str, Any],
        intervention: Mapping[str, Any],
        blocks: SeedBlocks,
        metrics: tuple[str, ...],
    ) -> Measurement:
        """The measurement of one condition. Raises SkiptuneError if a file that it needs is missing."""
        role = self.role(role_name)
        model = resolve_model(role.model, self.checkpoints)
        if role.features["kind"] != "desk":
            path = self.checkpoints / role.features["file"]
            raise SkiptuneError(
                f"feature extractor {role.features['name']} ({path}) is not available in this version"
            )
        features = role.features["name"]
        settings = SamplingSettings(
            model=model,
            sampler=self.sampler(sampler),
            intervention=dict(intervention),
            features=features,
            features_sha256=load_extractor(features).digest,
            micro_batch=self.micro_batch,
            device=self.device,
            noise_device=self.noise_device,
        )
        return Measurement(settings, blocks, role.model["dataset"], role.reference_images, metrics)


def parse_scale(
    scale: Mapping[str, Any], samplers: Mapping[str, Mapping[str, Any]], checkpoints: Path, device: str
) -> Scale:
    """The scale of a resolved configuration. Raises SkiptuneError if select and report seeds overlap."""
    roles = {name: Role(**role) for name, role in scale["roles"].items()}
    select, report = (SeedBlocks.of(scale["seeds"][key]) for key in ("select", "report"))
    if max(select.seeds.start, report.seeds.start) < min(select.seeds.stop, report.seeds.stop):
        raise SkiptuneError(
            "seeds.select and seeds.report overlap: what is selected on seeds cannot be reported on them"
        )
    return Scale(
        name=scale["name"],
        roles=roles,
        select=select,
        report=report,
        micro_batch=scale["micro_batch"],
        noise_device=scale["noise_device"],
        samplers=samplers,
        checkpoints=checkpoints,
        device=device,
    )


def role_descriptions(rows: Sequence[RowConfig], scale: Scale) -> dict[str, dict[str, str]]:
    """Model, data and features of every role that the rows name, for the head of a table."""
    return {row.role: scale.role(row.role).description for row in rows}
