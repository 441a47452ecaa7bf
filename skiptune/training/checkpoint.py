"""State of a training run on disk: weights, Adam moments, averaged weights, progress. No pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class TrainingState:
    """What a finished run leaves: weights, averaged weights, loss curve, seconds of computing."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    curve: list[dict[str, float]]
    seconds: float


def save_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int, seconds: float
) -> None:
    """Write the state atomically; ``step`` steps are done."""
    names = dict(network.named_parameters())
    tensors: dict[str, Tensor] = {}
    for name, parameter in names.items():
        state = optimizer.state[parameter]
        tensors |= {
            f"weight/{name}": parameter.detach(),
            f"average/{name}": average[name],
            f"exp_avg/{name}": state["exp_avg"],
            f"exp_avg_sq/{name}": state["exp_avg_sq"],
        }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    metadata = {"step": str(step), "seconds": json.dumps(seconds)}
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, float]:
    """Restore a state in place; returns ``(steps done, seconds used)``.

    Raises:
        SkiptuneError: damaged file, or the checkpoint of another network.
    """
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            metadata = file.metadata()
            step = int(metadata["step"])
            for name, parameter in network.named_parameters():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
                average[name].copy_(file.get_tensor(f"average/{name}"))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    "exp_avg": torch.empty_like(parameter).copy_(file.get_tensor(f"exp_avg/{name}")),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(file.get_tensor(f"exp_avg_sq/{name}")),
                }
            return step, json.loads(metadata["seconds"])
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise SkiptuneError(f"cannot continue from {path}: {error}; delete the file to train from the beginning") from error
