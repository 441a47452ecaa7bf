"""The official EDM sampler from a user's own checkout of NVlabs/edm, with weights handed over as tensors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError


def official_sampler(
    repository: Path, kwargs: dict[str, Any], denoiser: Denoiser
) -> Callable[[Tensor, Tensor | None, int], Tensor]:
    """``f(latents, one-hot labels, steps) -> images``: Heun of ``generate.py``, on equal weights and device.

    Raises:
        SkiptuneError: ``repository`` is no checkout of NVlabs/edm.
    """
    if not (repository / "generate.py").is_file() or not (repository / "training" / "networks.py").is_file():
        raise SkiptuneError(
            f"{repository} is no checkout of NVlabs/edm (no generate.py or training/networks.py there)"
        )
    sys.path.insert(0, str(repository))
    try:
        networks = importlib.import_module("training.networks")
        edm_sampler = importlib.import_module("generate").edm_sampler
    except ImportError as error:
        raise SkiptuneError(f"cannot import {repository}: {error}") from error
    finally:
        sys.path.remove(str(repository))
    network = networks.EDMPrecond(**kwargs)
    network.load_state_dict(denoiser.state_dict())
    network = network.to(next(denoiser.parameters()).device).eval().requires_grad_(False)

    @torch.no_grad()
    def run(latents: Tensor, labels: Tensor | None, steps: int) -> Tensor:
        return edm_sampler(network, latents, labels, randn_like=torch.randn_like, num_steps=steps)

    return run
