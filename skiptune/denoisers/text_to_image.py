"""Text to image: a diffusers U-Net on a discrete schedule, with the encoder of its prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skiptune.denoisers.diffusers_network import DiffusersNetwork, Prompted
from skiptune.denoisers.discrete import DiscreteDenoiser
from skiptune.denoisers.prompt_encoder import PromptEncoder, library


class TextToImage(DiscreteDenoiser):
    """A denoiser that is called with ``context``, what its ``encoder`` makes of prompts.

    ``denoiser.prompted(["a red letter K on white"])(x, sigma)`` is what samplers take.

    Args:
        unet: a ``UNet2DConditionModel``.
        encoder: as wide as the U-Net's ``cross_attention_dim``.
        others: as for ``DiscreteDenoiser``.
    """

    def __init__(
        self,
        unet: Any,
        encoder: PromptEncoder,
        image_shape: tuple[int, int, int],
        alphas_cumprod: Tensor,
        prediction: str = "epsilon",
    ):
        super().__init__(DiffusersNetwork(unet), image_shape, alphas_cumprod, prediction=prediction)
        self.encoder = encoder

    def context(self, ids: Tensor) -> Tensor:
        """Tokens ``[N, L]`` -> what the U-Net attends to, ``[N, L, D]``."""
        return self.encoder(ids)[0]

    @torch.no_grad()
    def inputs(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The network's inputs for each prompt; the empty text is no prompt."""
        return {"context": self.context(self.encoder.ids(prompts))}

    def prompted(self, prompts: Sequence[str], guidance: float = 1.0) -> Prompted:
        """This denoiser with its prompts fixed: one of all images, or one of each.

        Args:
            guidance: as of ``Prompted``, away from the empty text; 1 is none.
        """
        return Prompted(self, self.inputs(prompts), self.inputs([""]), guidance)


def unet_of(arguments: Mapping[str, Any]) -> Any:
    """A diffusers ``UNet2DConditionModel`` with fresh weights. Raises SkiptuneError without diffusers."""
    return library("diffusers").UNet2DConditionModel(**arguments)
