"""A scale read from the configuration files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.config_files import Config, choice, choices
from experiments.measurement import SeedBlocks
from experiments.scale import Role, Scale, disjoint
from skiptune.errors import SkiptuneError
from skiptune.evaluation.protocols import Protocol, get_protocol

AUTO = "auto"  # a micro_batch that the memory of the device decides


def parse_scale(config: Config, bench_device: str) -> Scale:
    """The scale of a resolved configuration (``configs/reproduce.yaml``), on a device.

    Raises:
        SkiptuneError: select and report seeds overlap; a role's model or features are not there.
    """
    scale = config["scale"]
    blocks = disjoint({key: SeedBlocks.of(value) for key, value in scale["seeds"].items()})
    return Scale(
        name=scale["name"],
        roles={name: parse_role(name, role) for name, role in scale["roles"].items()},
        micro_batch=parse_micro_batch(scale["micro_batch"]),
        noise_device=scale["noise_device"],
        precision=scale["precision"],
        compile=scale["compile"],
        # A preset such as diff_instruct has the name of the sampler that it is of.
        samplers={name: own for name, own in choices("sampler").items() if own.get("name") == name},
        extractors=choices("features"),
        checkpoints=Path(str(config["checkpoints"])),
        device=bench_device,
        protocol=table_protocol(scale["protocol"], blocks["report"]),
        prompts=scale["prompts"],
        probe=scale["probe"],
        probes=config["probes"],
        **blocks,
    )


def parse_micro_batch(value: Any) -> int | None:
    """A number of images, or None for ``auto``. Raises SkiptuneError for anything else."""
    if value == AUTO:
        return None
    if type(value) is not int or value < 1:
        raise SkiptuneError(f"scale.micro_batch is {value!r}; give a number of images from 1 on, or {AUTO}")
    return value


def parse_role(name: str, role: Config) -> Role:
    """The role of a resolved configuration, whose model and features are names in ``configs``.

    Raises:
        SkiptuneError: there are none of these names, a setting that no role has.
    """
    known = [field.name for field in dataclasses.fields(Role)]
    if unknown := [key for key in role if key not in known]:
        raise SkiptuneError(f"scale.roles.{name}.{unknown[0]}: no such setting; settings: {', '.join(known)}")
    parts = {}
    for group in ("model", "features"):
        if not isinstance(given := role.get(group), str):
            raise SkiptuneError(f"scale.roles.{name}.{group} is {given!r}: name one of configs/{group}")
        parts[group] = choice(group, given)
    return Role(**{**role, **parts, "suffixes": tuple(role.get("suffixes", ("",)))})


def table_protocol(name: str, report: SeedBlocks) -> Protocol:
    """The protocol of that name for tables.

    Raises:
        SkiptuneError: an unknown one, another number of blocks, or one that measures something else.
    """
    protocol = get_protocol(name)
    if protocol.extrapolate:
        raise SkiptuneError(f"protocol {name} is not for tables: give the table a column of metric fid_inf")
    protocol.check(report.count)
    return protocol
