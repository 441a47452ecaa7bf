"""What plays the roles of a table, for its head."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.importance_probe.cases import UNTRAINED
from experiments.registry import kind_of
from experiments.scale import Scale
from experiments.tables.config import RowConfig


def role_descriptions(rows: Sequence[RowConfig], scale: Scale) -> dict[str, dict[str, str]]:
    """Of every role that the rows name: its model, and of data, features and scorer what its rows use.

    A network with random weights has seen no data.
    """
    return {row.role: described(row.role, rows, scale) for row in rows}


def described(name: str, rows: Sequence[RowConfig], scale: Scale) -> dict[str, str]:
    """One role."""
    role = scale.role(name)
    kinds = [kind_of(row) for row in rows if row.role == name]
    found = dict(role.description)
    if role.model["kind"] == UNTRAINED:
        del found["data"]
    if not any(kind.features for kind in kinds):
        del found["features"]
    if role.scorer is not None and any(kind.scorer for kind in kinds):
        found["scorer"] = role.scorer["name"]
    return found
