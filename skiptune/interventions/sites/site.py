"""A skip site: a place where decoder features ``u`` and encoder features ``d`` are concatenated."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class SkipSite:
    """One concatenation ``[u, d]`` along the channels.

    Attributes:
        index: 0 at the bottom (lowest resolution), counting in decoding order.
        name: path of ``block`` inside the network.
        block: module whose first argument is the concatenation: ``[N, u + d, H, W]``, or tokens
            ``[N, L, u + d]`` (``channel_dim`` -1), of which the last ``resolution^2`` are patches.
        u_channels, d_channels: channels of decoder and of skip features.
        norm: the normalisation that the block begins with, ``None`` where it has none.
        shortcut: the layer on the block's residual path, ``None`` where the input is added as it is.
        stage: 0 at the lowest resolution, one more at every doubling.
        resolution: of the concatenation, in pixels; an up-sampling block would receive half of its own.
            ``None`` where the network does not know the size of its images.
        balance: weights that ``u`` and ``d`` carry inside the concatenation (magnitude-preserving networks).
        exclusive: whether the concatenation is made for ``block`` alone, so that it may be changed in place,
            as in the known families; a network may use it again, in a residual path around the block.
    """

    index: int
    name: str
    block: nn.Module
    u_channels: int
    d_channels: int
    norm: nn.Module | None = None
    shortcut: nn.Module | None = None
    stage: int = 0
    resolution: int | None = None
    channel_dim: int = 1
    balance: tuple[float, float] = (1.0, 1.0)
    exclusive: bool = False

    @property
    def matching(self) -> bool:
        """Whether skip and decoder part are equally wide (Skip-Tuning, section 2)."""
        return self.u_channels == self.d_channels

    def check(self, x: Tensor) -> None:
        """Raises SkiptuneError: ``x`` is not as wide as ``u`` and ``d`` together."""
        if x.shape[self.channel_dim] != self.u_channels + self.d_channels:
            raise SkiptuneError(
                f"site {self.name} is called with {x.shape[self.channel_dim]} channels, but was given as "
                f"{self.u_channels} of the decoder and {self.d_channels} of the skip"
            )

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``u`` and ``d`` as views of the concatenation. Raises SkiptuneError as ``check``."""
        self.check(x)
        return (
            x.narrow(self.channel_dim, 0, self.u_channels),
            x.narrow(self.channel_dim, self.u_channels, self.d_channels),
        )
