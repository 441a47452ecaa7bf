"""Some weights of a network replaced inside a ``with`` block, such as a pruned student's transformers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError


@contextlib.contextmanager
def replaced_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Use ``weights``, by their names in the network, inside the ``with`` block; leaving it restores its own.

    Raises:
        SkiptuneError: weights of another network.
    """
    parameters = dict(network.named_parameters())
    for name, value in weights.items():
        if name not in parameters or parameters[name].shape != value.shape:
            raise SkiptuneError(f"the network has no {name} {list(value.shape)}: the weights are another's")
    before = {name: parameters[name].detach().clone() for name in weights}
    try:
        put(parameters, weights)
        yield
    finally:
        put(parameters, before)


@torch.no_grad()
def put(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)
