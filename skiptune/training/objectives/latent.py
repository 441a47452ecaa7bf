"""Training of a latent diffusion model on the latents of a frozen autoencoder (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from skiptune.checkpoints.desk import load_desk_autoencoder
from skiptune.denoisers import Denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.training.losses import Loss
from skiptune.training.objectives.objective import Data, Objective


class LatentDenoising(Objective):
    """A loss of the network of latents; what is exported holds the autoencoder too.

    Args:
        denoiser: described with ``autoencoder``, whose weights are replaced.
        loss: of ``denoiser.model`` on latents.
        autoencoder: name of the desk autoencoder.

    Raises:
        SkiptuneError: the desk autoencoder is not there or not the one described.
    """

    def __init__(self, denoiser: LatentDenoiser, loss: Loss, autoencoder: str):
        super().__init__(denoiser)
        self.loss_function = loss
        self.latent = denoiser
        inner = denoiser.get_submodule("autoencoder")
        try:
            inner.load_state_dict(load_desk_autoencoder(autoencoder).state_dict())
        except RuntimeError as error:
            raise SkiptuneError(
                f"the denoiser describes another autoencoder than {autoencoder}; copy its description"
            ) from error
        inner.eval().requires_grad_(False)
        # Its parameters are called as they are in the denoiser.
        self.network = nn.ModuleDict({"model": denoiser.model})

    @property
    def trained(self) -> nn.Module:
        return self.network

    def networks(self) -> Iterator[Denoiser]:
        yield self.latent.model

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, condition = data()
        with torch.autocast(clean.device.type, enabled=False):  # latents are data: they keep their precision
            latents = self.latent.encode(clean)
        return self.loss_function(self.latent.model, latents, condition, generator)
