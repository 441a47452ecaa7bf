"""Noise prediction with prompts, of which some are dropped for guidance (Ho & Salimans 2022)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Generator, Tensor

from skiptune.data import Dataset
from skiptune.denoisers import Denoiser
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError
from skiptune.training.losses.noise_prediction import draw_times, predict
from skiptune.training.objectives.objective import Data, Objective
from skiptune.training.prompt_tokens import PromptTokens


class Prompted(Objective):
    """What objectives of a text-to-image denoiser share: their condition is the tokens of the prompts.

    Raises:
        SkiptuneError: a denoiser that takes no prompts.
    """

    def __init__(self, denoiser: Denoiser):
        if not isinstance(denoiser, TextToImage):
            raise SkiptuneError(f"{type(denoiser).__name__} takes no prompts; describe a TextToImage")
        super().__init__(denoiser)
        self.model = denoiser
        self.tokens: PromptTokens | None = None

    def condition(self, labels: Tensor, dataset: Dataset) -> Tensor:
        """Tokens ``[N, L]`` of the labels' prompts. Raises SkiptuneError if the data set has no prompts."""
        if self.tokens is None:
            self.tokens = PromptTokens(self.model.encoder, dataset)
        return self.tokens(labels)

    @cached_property
    def nothing(self) -> Tensor:
        """Tokens ``[1, L]`` of no prompt."""
        return self.model.encoder.ids([""])


class PromptedDenoising(Prompted):
    """DDPM's simple loss of U-Net and prompt encoder together, t uniform on the schedule.

    Args:
        dropped: share of the prompts that is replaced by the empty one.
    """

    def __init__(self, denoiser: Denoiser, dropped: float = 0.1):
        if not 0 <= dropped < 1:
            raise SkiptuneError(f"the share of dropped prompts is {dropped}, it must lie in [0, 1)")
        super().__init__(denoiser)
        self.dropped = dropped

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, ids = data()
        assert ids is not None
        dropped = (torch.rand(count, 1, generator=generator) < self.dropped).to(clean.device)
        ids = torch.where(dropped, self.nothing.to(clean.device), ids)
        times = draw_times(count, 0, self.model.num_timesteps, False, generator)
        _, error = predict(self.model, clean, None, times, generator, context=self.model.context(ids))
        return error.square().mean()
