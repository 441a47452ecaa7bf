"""What is common to convolutional U-Nets: decoder blocks in order, and the skips that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites.site import SkipSite


@dataclass(frozen=True)
class DecoderBlock:
    """A block of the decoder, whether or not it takes a skip.

    ``doubles`` says that the resolution doubles before its input is made; the rest is as in ``SkipSite``.
    """

    name: str
    module: nn.Module
    in_channels: int
    out_channels: int
    norm: nn.Module | None = None
    shortcut: nn.Module | None = None
    doubles: bool = False


def pair_with_skips(
    blocks: Iterable[DecoderBlock],
    width: int,
    skips: Sequence[int] | None,
    size: int | None,
    balance: Callable[[int, int], tuple[float, float]] = lambda u, d: (1.0, 1.0),
) -> tuple[SkipSite, ...]:
    """The sites: a block takes a skip when its input is wider than what comes from below.

    Args:
        blocks: of the decoder, in the order of execution.
        width: channels that the decoder starts from.
        skips: channels of the encoder's skips, in the order they are made (they leave last-in first-out);
            ``None`` where only the decoder says how wide they are.
        size: pixels of the full resolution, if known.
        balance: weights of u and d in a concatenation of so many channels.

    Raises:
        SkiptuneError: the widths do not agree, or a skip is left over.
    """
    left = None if skips is None else list(skips)
    found: list[tuple[DecoderBlock, int, int]] = []
    stage = 0
    stages = []
    for block in blocks:
        stage += block.doubles
        if block.in_channels != width:
            d = block.in_channels - width if left is None else left.pop() if left else 0
            if d <= 0 or width + d != block.in_channels:
                raise SkiptuneError(
                    f"block {block.name} takes {block.in_channels} channels, "
                    f"decoder and skip have {width}+{max(d, 0)}"
                )
            found.append((block, width, d))
            stages.append(stage)
        width = block.out_channels
    if left or not found:
        raise SkiptuneError(f"the decoder takes {len(found)} skips, the encoder makes {len(skips or ())}")
    return tuple(
        SkipSite(
            index=index,
            name=block.name,
            block=block.module,
            u_channels=u,
            d_channels=d,
            norm=block.norm,
            shortcut=block.shortcut,
            stage=level,
            resolution=None if size is None else size >> (stage - level),
            balance=balance(u, d),
            exclusive=True,
        )
        for index, ((block, u, d), level) in enumerate(zip(found, stages, strict=True))
    )
