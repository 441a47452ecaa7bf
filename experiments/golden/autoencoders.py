"""Runner for the recorded first stages of CompVis/latent-diffusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison
from experiments.golden.networks import (
    Producers,
    Unsupported,
    compare_facts,
    computed_buffers,
    counts,
    produce,
)
from skiptune.denoisers.autoencoders import (
    Autoencoder,
    KLAutoencoder,
    VQAutoencoder,
    autoencoder_state,
    build_autoencoder,
)
from skiptune.errors import SkiptuneError


@torch.no_grad()
def check_autoencoder(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """An autoencoder: decoded images, encoded latents, quantisation or posterior, and its size."""
    autoencoder = build_first_stage(entry["constructor"])
    state = autoencoder_state(load_file(case_dir / "weights.safetensors"))
    facts = {**computed_buffers(autoencoder, state), **counts(autoencoder)}
    autoencoder.load_state_dict(state, strict=True)
    yield from compare_facts(entry, facts)
    io = load_file(case_dir / "io.safetensors")
    yield from produce(entry, io, outputs(autoencoder.eval(), io))


def build_first_stage(constructor: Mapping[str, Any]) -> Autoencoder:
    """The autoencoder of an entry. Raises Unsupported for arguments that this version does not know."""
    try:
        return build_autoencoder(constructor)
    except SkiptuneError as error:
        raise Unsupported(str(error)) from error


def outputs(autoencoder: Autoencoder, io: Mapping[str, Tensor]) -> Producers:
    """How each output that may be recorded is computed, by its name in the manifest."""
    producers: Producers = {"decode": lambda: autoencoder.decode(io["z"])}
    if isinstance(autoencoder, VQAutoencoder):
        producers |= {
            "decode_no_quant": lambda: autoencoder.decode(io["z"], force_not_quantize=True),
            "quantised": lambda: autoencoder.quantize(io["z"])[0],
            "indices": lambda: autoencoder.quantize(io["z"])[1],
            "encode": lambda: autoencoder.encode(io["x"]),
        }
    if isinstance(autoencoder, KLAutoencoder):
        producers |= {
            "encode_mean": lambda: autoencoder.posterior(io["x"]).mean,
            "encode_logvar": lambda: autoencoder.posterior(io["x"]).logvar,
        }
    return producers
