"""Torch files in the layouts of the official ones with random weights, to test and to time loading."""

from __future__ import annotations

import contextlib
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.discrete import vp_alphas

State = Mapping[str, Tensor]
CALLBACK = ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")


def random_state(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random values for the parameters and buffers of a module, which may be on device ``meta``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, device="cpu").to(value.dtype)
        for name, value in module.state_dict().items()
    }


def write_consistency(path: Path, state: State) -> None:
    """openai/consistency_models: the state dict of ``UNetModel``."""
    torch.save(OrderedDict(state), path)


def write_uvit(path: Path, state: State) -> None:
    """baofff/U-ViT, network or autoencoder: a state dict."""
    torch.save(OrderedDict(state), path)


def write_ddim(path: Path, state: State, average: State, legacy: bool = False) -> None:
    """ermongroup/ddim, training state of a data-parallel network: network, optimizer, epoch, step, average.

    ``legacy`` is the format of torch before 1.6.
    """
    parameters = list(state.values())[:2]
    optimizer = {
        "state": {i: {"step": 5, "exp_avg": torch.zeros_like(p)} for i, p in enumerate(parameters)},
        "param_groups": [{"lr": 0.0002, "betas": (0.9, 0.999), "params": [0, 1]}],
    }
    network = OrderedDict((f"module.{name}", value) for name, value in state.items())
    states = [network, optimizer, 3, 5, dict(average)]
    torch.save(states, path, _use_new_zipfile_serialization=not legacy)


def write_latent(
    path: Path, network: State, embedding: Tensor, autoencoder: State, average: bool = False
) -> None:
    """CompVis/latent-diffusion: a checkpoint of PyTorch Lightning with the whole model.

    Args:
        network: of the U-Net.
        embedding: of the classes, ``[K, D]``.
        autoencoder: of the first stage.
        average: add the averaged U-Net under its flattened names, as other models of the repository have.
    """
    alphas = vp_alphas("scaled_linear", 0.0015, 0.0195)
    state: OrderedDict[str, Tensor] = OrderedDict(
        betas=(1 - alphas / torch.cat([torch.ones(1, dtype=alphas.dtype), alphas[:-1]])).float(),
        alphas_cumprod=alphas.float(),
    )
    state |= {f"model.diffusion_model.{name}": value for name, value in network.items()}
    if average:
        state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
        state |= {f"model_ema.diffusion_model{n.replace('.', '')}": 2 * v for n, v in network.items()}
    state |= {f"first_stage_model.{name}": value for name, value in autoencoder.items()}
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.zeros(4, 3, 4, 4)
    state["cond_stage_model.embedding.weight"] = embedding
    with stand_in(*CALLBACK) as callback:
        checkpoint: dict[str, Any] = {
            "epoch": 6,
            "global_step": 178000,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {callback: {"monitor": "val/loss", "best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [],
            "lr_schedulers": [],
        }
        torch.save(checkpoint, path)


@contextlib.contextmanager
def stand_in(module: str, name: str) -> Iterator[type]:
    """A class that pickles as ``module.name``, although that module is not installed."""
    cls = type(name, (), {"__module__": module})
    parts = module.split(".")
    made = [".".join(parts[: end + 1]) for end in range(len(parts))]
    kept = {part: sys.modules.get(part) for part in made}
    for part in made:
        sys.modules[part] = types.ModuleType(part)
    setattr(sys.modules[module], name, cls)
    try:
        yield cls
    finally:
        for part, before in kept.items():
            if before is None:
                del sys.modules[part]
            else:
                sys.modules[part] = before
