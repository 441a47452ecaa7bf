"""``scale.micro_batch=auto``: the batch of every role of a table, by the memory of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.registry import kind_of
from experiments.scale import Scale
from experiments.tables.config import SAMPLES, RowConfig
from skiptune.runtime.micro_batch import stored_micro_batch, with_fitting_micro_batch
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.store import RunStore


def with_fitting_batches(
    scale: Scale, rows: Sequence[RowConfig], store: RunStore, computes: bool = True
) -> Scale:
    """The scale with a ``micro_batch`` in every role that rows sample; with a number of its own, as it is.

    Tried once with the cheapest row of each role and kept in the store, so that a job that goes on, or one on
    the same kind of device, has the same. With ``computes`` false only what is kept there is taken, and a
    role of which nothing is stays as it is.

    Raises:
        SkiptuneError: a file is missing; not even one image fits.
    """
    if scale.micro_batch is not None:
        return scale
    sampled: dict[str, list[RowConfig]] = {}
    for row in rows:
        if row.measure["kind"] == SAMPLES and scale.role(row.role).micro_batch is None:
            sampled.setdefault(row.role, []).append(row)
    largest, roles = replace(scale, micro_batch=CHUNK), dict(scale.roles)
    for name, several in sampled.items():
        cheapest = min(several, key=lambda row: kind_of(row).evaluations(scale, row))
        settings = largest.sampling(name, cheapest.sampler, {"name": "none"})
        fitting: int | None = None
        if computes:
            fitting = with_fitting_micro_batch(settings, store).micro_batch
        else:
            fitting = stored_micro_batch(settings, store)
        roles[name] = replace(scale.role(name), micro_batch=fitting)
    return replace(scale, roles=roles)
