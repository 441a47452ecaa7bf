"""Learned skip coefficients (Skip-Tuning, Table 11): from the name that a row gives to their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.scale import Role, named
from skiptune.checkpoints.desk import DESK_FOLDER, LearnedCoefficients, load_coefficients
from skiptune.checkpoints.models import resolve_model, verified
from skiptune.errors import SkiptuneError


def with_coefficients(intervention: Mapping[str, Any], role: Role, checkpoints: Path) -> dict[str, Any]:
    """The intervention ``skip_coefficients`` with ``learned: variant`` turned into values.

    Without ``learned`` the intervention stays as it is. Raises SkiptuneError as ``learned_coefficients``.
    """
    settings = dict(intervention)
    if "learned" not in settings:
        return settings
    found = learned_coefficients(settings.pop("learned"), role, checkpoints)
    return {**settings, "rho": list(found.rho)}


def learned_coefficients(variant: str, role: Role, checkpoints: Path) -> LearnedCoefficients:
    """The file that a variant means: the role's ``coefficients`` say which; that of a desk model is shipped.

    Raises:
        SkiptuneError: an unknown variant, a missing or damaged file, coefficients of another network.
    """
    name = coefficients_name(variant, role)
    folder = DESK_FOLDER if role.model["kind"] == "desk" else checkpoints
    verified(folder / f"{name}.safetensors", role.model["name"], how_to_learn(name, role), None)
    found = load_coefficients(name, folder)
    if found.model_sha256 != resolve_model(role.model, checkpoints).sha256:
        raise SkiptuneError(
            f"{name} was learned on other weights than those of {role.model['name']}; "
            + how_to_learn(name, role)
        )
    return found


def coefficients_name(variant: str, role: Role) -> str:
    """The name of the file without its ending. Raises SkiptuneError if the role has no such variant."""
    return str(named(variant, role.coefficients, f"learned coefficients of {role.model['name']}"))


def how_to_learn(name: str, role: Role) -> str:
    """The command that makes the file."""
    export = "" if role.model["kind"] == "desk" else " export=checkpoints"
    return f"learn it with: python scripts/train.py model={role.model['name']} training={name}{export}"
