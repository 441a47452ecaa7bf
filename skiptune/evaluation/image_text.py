"""The desk's image-text scorer, in the role of HPS v2: a contrastive pair of encoders.

As in CLIP (Radford et al. 2021), how well an image is what its prompt says is the cosine of what the two
encoders make of them; the images are those of ``prompted_glyphs``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiptune.checkpoints.desk import DESK_FOLDER, load_desk_network
from skiptune.data.images import from_uint8
from skiptune.denoisers.prompt_encoder import PromptEncoder
from skiptune.errors import SkiptuneError
from skiptune.evaluation.classifiers import ARCHITECTURES
from skiptune.evaluation.extractors.base import check_uint8

KIND = "image-text pair"
MICRO_BATCH = 64


class ImageTextPair(nn.Module):
    """A classifier's network as image encoder, a text transformer, and one linear map after each.

    What all images or all prompts have in common is taken out by batch normalisation (of the training's
    batches, so that in evaluation no score depends on the batch); without it training hardly starts.

    Args:
        architecture, image: a name in ``ARCHITECTURES`` and its arguments.
        text: arguments of ``PromptEncoder``.
        dimension: D of the common space.
    """

    def __init__(
        self, architecture: str, image: Mapping[str, Any], text: Mapping[str, Any], dimension: int
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise SkiptuneError(
                f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}"
            )
        self.image = ARCHITECTURES[architecture](num_classes=dimension, **image)
        self.text = PromptEncoder(**text)
        self.project = nn.Linear(text["width"], dimension, bias=False)
        self.centre_image, self.centre_text = (nn.BatchNorm1d(dimension, affine=False) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # of the logits, as in CLIP

    def see(self, images: Tensor) -> Tensor:
        """Images ``[N, C, H, W]`` in [-1, 1] -> unit vectors ``[N, D]``."""
        return F.normalize(self.centre_image(self.image(images)["logits"]), dim=-1)

    def read(self, ids: Tensor) -> Tensor:
        """Tokens ``[N, L]`` -> unit vectors ``[N, D]``."""
        return F.normalize(self.centre_text(self.project(self.text(ids)[1])), dim=-1)


def build_pair(description: Mapping[str, Any]) -> ImageTextPair:
    """A pair with fresh weights from ``{"class": "ImageTextPair", "kwargs": {...}}``.

    Raises:
        SkiptuneError: another class, or arguments that it does not take.
    """
    if description.get("class") != "ImageTextPair":
        raise SkiptuneError(f"unknown scorer class {description.get('class')!r}: it is ImageTextPair")
    try:
        return ImageTextPair(**description["kwargs"])
    except (TypeError, KeyError, ValueError) as error:
        raise SkiptuneError(f"cannot build ImageTextPair: {error}") from error


class PairScorer:
    """``ImageTextScorer`` of a pair: uint8 images and a prompt for each -> cosines ``[N]`` float32."""

    def __init__(self, pair: ImageTextPair, name: str, digest: str, device: str | torch.device = "cpu"):
        self.pair = pair.to(device).eval().requires_grad_(False)
        self.name, self.digest, self.device = name, digest, torch.device(device)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raises SkiptuneError unless the images are uint8 RGB and there is one prompt for each."""
        check_uint8(images, None, self.name)
        if isinstance(prompts, str) or len(prompts) != len(images):
            raise SkiptuneError(f"{self.name} takes one prompt per image, got {len(images)} images")
        ids = self.pair.text.ids(prompts)
        scores = []
        for pixels, tokens in zip(images.split(MICRO_BATCH), ids.split(MICRO_BATCH), strict=True):
            missing = MICRO_BATCH - len(pixels)  # filled up: bits depend on the size of the batch
            full = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, missing)).to(self.device)
            seen = self.pair.see(from_uint8(full))
            read = self.pair.read(F.pad(tokens, (0, 0, 0, missing)).to(self.device))
            scores.append((seen * read).sum(-1)[: len(pixels)].float().cpu())
        return torch.cat(scores)


def load_pair_scorer(name: str, folder: Path = DESK_FOLDER, device: str | torch.device = "cpu") -> PairScorer:
    """The shipped scorer of that name.

    Raises:
        SkiptuneError: as ``load_desk_denoiser``.
    """
    pair, sha256, _ = load_desk_network(name, KIND, build_pair, folder)
    return PairScorer(pair, name, sha256, device)
