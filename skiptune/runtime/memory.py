"""Memory: which micro-batch fits, found before the run; what to say when it did not fit after all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from skiptune.errors import SkiptuneError

HEADROOM = 1.2  # of the peak that was seen: interventions and other chunks may take a little more


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this machine, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def saying_what_fits(micro_batch: int | None, device: str) -> Iterator[None]:
    """Turns lack of memory into ``out_of_memory``, the line that says which smaller value to use."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(micro_batch, device) from error
        raise


def out_of_memory(micro_batch: int | None, device: str) -> SkiptuneError:
    """The one line for it, with the value to use instead; None where there is nothing to choose."""
    if micro_batch is None:
        return SkiptuneError(
            f"out of memory on {device}: use a device with more, or fewer workers; finished chunks are kept"
        )
    if micro_batch == 1:
        return SkiptuneError(f"out of memory on {device} with a micro_batch of 1: use a device with more")
    return SkiptuneError(
        f"out of memory on {device} with micro_batch={micro_batch}: use {micro_batch // 2} (in a table "
        f"scale.micro_batch={micro_batch // 2}), a run of its own; finished chunks of this one are kept"
    )


def largest_fitting(attempt: Callable[[int], None], largest: int) -> int:
    """The first of ``largest``, half of it, ... that ``attempt`` can do without running out of memory.

    Raises:
        SkiptuneError: not even 1 fits.
    """
    size = largest
    while True:
        try:
            attempt(size)
            return size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        if size == 1:
            raise out_of_memory(1, "the device")
        size //= 2


def check_headroom(device: torch.device) -> None:
    """After an attempt on a GPU. Raises torch.OutOfMemoryError if its peak leaves too little room."""
    if device.type == "cuda":
        peak, (_, total) = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)
        if HEADROOM * peak > total:
            raise torch.OutOfMemoryError(f"peak of {peak} of {total} bytes")
