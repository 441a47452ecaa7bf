"""What interventions on transformer blocks share: which transformers act, and following the steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.blocks.find import Transformer, find_transformer_blocks
from skiptune.interventions.blocks.switch import Added, Switch
from skiptune.interventions.blocks.table import BlockTable

Add = Callable[[Switch, Transformer], Added]


@contextlib.contextmanager
def switched(
    network: nn.Module,
    table: BlockTable,
    acting: Sequence[int],
    sigma_of: Callable[[Tensor], Tensor] | None,
    add: Add,
) -> Iterator[None]:
    """Add an effect to every transformer of the blocks ``acting`` (by index) inside the ``with`` block.

    Raises:
        SkiptuneError: another number of blocks than values, no noise levels for several steps, a network
            without transformer blocks; when called, a network that goes past a transformer.
    """
    blocks = find_transformer_blocks(network)
    count = table.values.shape[-1]
    if len(blocks) != count:
        raise SkiptuneError(f"{count} values for a network with {len(blocks)} transformer blocks")
    places = [transformer for block in blocks if block.index in acting for transformer in block.transformers]
    with (
        table.running(network, sigma_of),
        hooked(network, places, lambda place: [add(Switch.of(place.block), place)], "transformers"),
    ):
        yield
