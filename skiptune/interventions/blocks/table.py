"""A value for every step, image and transformer block, looked up for the network call that is under way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.clock import following


def as_table(values: Tensor, levels: Sequence[float], what: str) -> Tensor:
    """``[m]``, ``[S, m]`` or ``[S, N, m]`` -> ``[S, N, m]`` on the CPU: S steps, N images, m blocks.

    Raises:
        SkiptuneError: another number of dimensions, or of steps than of noise levels (one step needs none).
    """
    values = values.detach().cpu()
    if not 1 <= values.dim() <= 3 or values.numel() == 0:
        raise SkiptuneError(
            f"{what} have the shape {list(values.shape)}, it must be [m], [S, m] or [S, N, m] of steps, "
            "images, blocks"
        )
    if values.dim() < 3:
        values = values.reshape(-1, 1, values.shape[-1])
    if len(values) not in (1, len(levels)):
        raise SkiptuneError(f"{what} for {len(values)} steps need as many noise levels, not {len(levels)}")
    return values


def nearest_step(levels: Sequence[float], sigma: Tensor) -> Tensor:
    """Step whose noise level is nearest to ``sigma``, int64 of the same shape."""
    at = torch.tensor(levels, dtype=torch.float64)
    return (sigma.to("cpu", torch.float64).unsqueeze(-1) - at).abs().argmin(dim=-1)


class BlockTable:
    """Values ``[S, N, m]`` (``as_table``) of S steps at the noise levels ``levels``."""

    def __init__(self, values: Tensor, levels: Sequence[float]):
        self.values, self.levels = values, tuple(levels)
        self.steps: Tensor | None = None
        self.rows: dict[tuple[int, torch.device], Tensor] = {}

    @contextlib.contextmanager
    def running(self, network: nn.Module, sigma_of: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
        """Follow the noise level of the calls of ``network`` inside the ``with`` block.

        Raises:
            SkiptuneError: several steps, but nothing in ``network`` is called with ``sigma``.
        """
        if len(self.values) == 1:
            yield
            return
        with following(network, self.read, sigma_of):
            yield

    def read(self, sigma: Tensor | None) -> None:
        """A call at these noise levels begins; with ``None`` one ends."""
        self.steps = None if sigma is None else nearest_step(self.levels, sigma).flatten()
        self.rows.clear()

    def column(self, block: int, count: int, device: torch.device) -> Tensor:
        """Values ``[count]`` of a block for the rows of the call.

        A batch that holds the N images several times, as guidance makes it, takes their values in turn.

        Raises:
            SkiptuneError: another number of rows, or no noise level for several steps.
        """
        key = (count, device)
        if key not in self.rows:
            self.rows[key] = self.of_rows(count).to(device)
        return self.rows[key][:, block]

    def of_rows(self, count: int) -> Tensor:
        """``[count, m]`` on the CPU."""
        images = self.values.shape[1]
        if count % images:
            raise SkiptuneError(
                f"values for {images} images, but the network is called with {count}: it must be a multiple"
            )
        if len(self.values) == 1:
            steps = torch.zeros(1, dtype=torch.int64)
        elif self.steps is None:
            raise SkiptuneError(
                "values of several steps need the noise level: call the denoiser, not its inner network"
            )
        else:
            steps = self.steps
        return self.values[steps.expand(count), torch.arange(count) % images]
