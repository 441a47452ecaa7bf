"""The noise that a denoiser predicts inside, before guidance combines it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.clock import arguments
from skiptune.interventions.sites import inner_networks


@contextlib.contextmanager
def predicted_noise(denoiser: nn.Module) -> Iterator[list[Tensor]]:
    """A list that gets ``(x - D) / sigma`` ``[B, C, H, W]`` float32 of every call inside the ``with`` block.

    It is that of the innermost ``D(x, sigma)``, so under guidance ``B`` holds both halves of the batch, which
    is what the authors' program compares.

    Raises:
        SkiptuneError: nothing in ``denoiser`` is called with ``sigma``.
    """
    modules = [module for _, module in inner_networks(denoiser) if "sigma" in arguments(module)]
    if not modules:
        raise SkiptuneError(
            f"the noise that {type(denoiser).__name__} predicts is not known: give a denoiser D(x, sigma)"
        )
    heard: list[Tensor] = []

    def listen(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        x, sigma = args[0].to(torch.float32), torch.as_tensor(args[1]).to(torch.float32)
        heard.append((x - output) / sigma.reshape(-1, 1, 1, 1).to(x.device))

    handle = modules[-1].register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()
