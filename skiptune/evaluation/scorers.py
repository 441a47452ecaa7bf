"""Image-text scorers by configuration: the desk's pair, or HPS v2 from its local file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skiptune.checkpoints.desk import desk_digest
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import CHECKPOINTS
from skiptune.evaluation.extractors.pretrained import verified_weights
from skiptune.evaluation.image_text import load_pair_scorer
from skiptune.evaluation.perceptual import HPS_V2, ImageTextScorer, load_hps_v2

KINDS = ("desk", "hps_v2")


@dataclass(frozen=True)
class ScorerRef:
    """A scorer that is there: what a run is named by (``identity``) and where its file lies.

    Attributes:
        weights: its file in ``checkpoints``; None for the shipped one.
    """

    name: str
    sha256: str
    weights: Path | None = None

    @classmethod
    def resolve(cls, scorer: Mapping[str, Any], checkpoints: Path = CHECKPOINTS) -> ScorerRef:
        """Of a configuration of ``configs/scorer``; nothing is loaded yet.

        Raises:
            SkiptuneError: an unknown kind, a file that is missing or has another sha256.
        """
        name, kind = scorer["name"], scorer["kind"]
        if kind not in KINDS:
            raise SkiptuneError(f"scorer {name} is of kind {kind!r}; choose one of {', '.join(KINDS)}")
        if kind == "desk":
            return cls(name, desk_digest(name))
        path = checkpoints / scorer["file"]
        sha256 = verified_weights(f"scorer {name!r}", path, HPS_V2.entry, scorer.get("sha256"))
        return cls(name, sha256, path)

    @property
    def identity(self) -> dict[str, str]:
        """What determines the scores; the path does not."""
        return {"name": self.name, "sha256": self.sha256}

    def load(self, device: str | torch.device = "cpu") -> ImageTextScorer:
        """The scorer. Raises SkiptuneError if its file changed since it was resolved."""
        scorer: ImageTextScorer
        if self.weights is None:
            scorer = load_pair_scorer(self.name, device=device)
        else:
            scorer = load_hps_v2(device=device, weights=self.weights)
        if scorer.digest != self.sha256:
            raise SkiptuneError(f"the weights of scorer {self.name} changed meanwhile; start again")
        return scorer
