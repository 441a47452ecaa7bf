"""Tokens of a data set's prompts, each made when it is first asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.data import Dataset, with_prompts
from skiptune.denoisers.prompt_encoder import PromptEncoder


class PromptTokens:
    """Labels ``[N]`` -> tokens ``[N, L]`` of their prompts, both on the CPU.

    Raises:
        SkiptuneError: a data set without prompts.
    """

    def __init__(self, encoder: PromptEncoder, dataset: Dataset):
        self.encoder, self.dataset = encoder, with_prompts(dataset)
        self.known = torch.zeros(dataset.num_classes, dtype=torch.bool)
        self.tokens = torch.zeros(dataset.num_classes, encoder.length, dtype=torch.int64)

    def __call__(self, labels: Tensor) -> Tensor:
        new = labels[~self.known[labels]].unique()
        if len(new):
            self.tokens[new] = self.encoder.ids(self.dataset.prompts_of(new))
            self.known[new] = True
        return self.tokens[labels]
