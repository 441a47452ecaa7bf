"""``micro_batch=auto``: the largest batch that is sampled and seen within the memory there is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch

from skiptune.data.images import to_uint8
from skiptune.runtime.claims import made_once
from skiptune.runtime.generation import sample_images
from skiptune.runtime.memory import check_headroom, largest_fitting
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.precision import in_precision
from skiptune.runtime.provenance import device as usable_device
from skiptune.runtime.provenance import device_name
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.store import RunStore
from skiptune.samplers import make_sampler


def fitting_micro_batch(settings: SamplingSettings) -> int:
    """The largest of a chunk, half of it, ... images that are sampled and seen within the memory there is.

    They are sampled to the end, once; on a GPU some room is left.
    """
    denoiser = settings.network
    extractor = cached_extractor(settings.features, settings.device)
    sampler = make_sampler(**settings.sampler)
    place = next(denoiser.parameters()).device

    def attempt(size: int) -> None:
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        with in_precision(settings.precision, settings.device):
            (found, *_), _ = sample_images(
                denoiser, sampler, [settings.intervention], range(size), settings.noise_device
            )
        extractor(to_uint8(found[0], settings.model.rounding))
        check_headroom(place)

    return largest_fitting(attempt, CHUNK)


def with_fitting_micro_batch(settings: SamplingSettings, store: RunStore) -> SamplingSettings:
    """These settings with ``fitting_micro_batch``, tried once per kind of device and kept in the store."""
    run = store.open({**_question(settings), "device": device_name(usable_device(settings.device))})
    made_once(run.record_path, lambda: run.write_record({"micro_batch": fitting_micro_batch(settings)}))
    return replace(settings, micro_batch=(run.record() or {})["micro_batch"])


def stored_micro_batch(settings: SamplingSettings, store: RunStore) -> int | None:
    """What ``with_fitting_micro_batch`` found in this store, on whatever device.

    None if nothing was found, or not the same on all kinds of device.
    """
    asked = json.loads(json.dumps({**_question(settings), "device": None}))
    runs = [store.load(id) for id in store.ids()]
    answers = [run.record() for run in runs if {**run.settings, "device": None} == asked]
    sizes = {answer["micro_batch"] for answer in answers if answer}
    return sizes.pop() if len(sizes) == 1 else None


def _question(settings: SamplingSettings) -> dict[str, Any]:
    return {**replace(settings, micro_batch=CHUNK).resolved(), "kind": "micro_batch"}
