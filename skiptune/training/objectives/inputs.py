"""The trained networks that a training begins with, by the hashes of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skiptune.checkpoints.desk import desk_digest
from skiptune.checkpoints.models import resolve_model
from skiptune.evaluation.extractors import ExtractorRef, extractor_digest


def inputs_of(loss: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the ``teacher``, ``initial``, ``features`` and ``autoencoder`` that a loss's settings name.

    The second file of a latent teacher is its ``teacher_autoencoder``. Nothing is loaded.

    Raises:
        SkiptuneError: one of them is missing or damaged.
    """
    found: dict[str, str] = {}
    folder = Path(loss.get("checkpoints", "checkpoints"))
    for role in ("teacher", "initial"):
        if not (trained := loss.get(role)):
            continue
        if isinstance(trained, str):
            found[role] = desk_digest(trained)
            continue
        model = resolve_model(trained, folder)
        found[role] = model.sha256
        if model.autoencoder_sha256:
            found[f"{role}_autoencoder"] = model.autoencoder_sha256
    if features := loss.get("features"):
        named = isinstance(features, str)
        found["features"] = (
            extractor_digest(features) if named else ExtractorRef.resolve(features, folder).sha256
        )
    if autoencoder := loss.get("autoencoder"):
        found["autoencoder"] = desk_digest(autoencoder)
    return found
