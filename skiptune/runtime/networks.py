"""Networks on their devices, loaded once in a process and kept."""

from __future__ import annotations

from functools import lru_cache

import torch

from skiptune.checkpoints.models import ModelRef, load_model
from skiptune.denoisers import Denoiser
from skiptune.evaluation.extractors import ExtractorRef, FeatureExtractor
from skiptune.runtime.compiled import compile_blocks


@lru_cache(maxsize=4)
def cached_model(model: ModelRef, device: str) -> Denoiser:
    """The network on its device; convolutions are faster with channels in the innermost position."""
    return load_model(model).to(device).to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def compiled_model(model: ModelRef, device: str) -> Denoiser:
    """As ``cached_model``, loaded once more, with its blocks compiled."""
    denoiser = cached_model.__wrapped__(model, device)  # not the one that is kept, which stays plain
    compile_blocks(denoiser)
    return denoiser


@lru_cache(maxsize=4)
def cached_extractor(features: ExtractorRef, device: str) -> FeatureExtractor:
    """The feature extractor on its device."""
    return features.load(device)
