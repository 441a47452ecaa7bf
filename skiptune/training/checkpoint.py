"""State of a training run on disk: weights, Adam moments, averaged weights, further tensors (the objective's,
loss scaling's), dropout's generator, loss curve.

Safetensors and JSON only, no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import unwritable, write_atomic

_KINDS = ("weight", "average", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingState:
    """What a finished run leaves.

    Attributes:
        weights: state dict of the last step.
        average: averaged parameters by name; buffers are not in it.
        curve: rows ``{"images", "loss"}``, the loss being the mean over the steps since the row before.
        seconds: time of computing, of all the runs that led here.
    """

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    curve: list[dict[str, float]]
    seconds: float


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    generator: torch.Generator,
    step: int,
    seconds: float,
    recent: Sequence[float],
    kept: Mapping[str, Tensor],
) -> None:
    """Write the state atomically; ``step`` steps are done, ``generator`` is the one that dropout draws from.

    ``recent`` are the losses since the last row of the log, ``kept`` further tensors: the objective's, and
    the state of loss scaling.

    Raises:
        SkiptuneError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]  # empty before the first update
        moments = [state.get(kind, torch.zeros_like(parameter)) for kind in _KINDS[2:]]
        pieces = (parameter.detach(), average[name], *moments)
        tensors |= {
            f"{kind}/{name}": piece.contiguous().cpu() for kind, piece in zip(_KINDS, pieces, strict=True)
        }
    tensors |= {f"kept/{name}": tensor.detach().contiguous().cpu() for name, tensor in kept.items()}
    tensors["generator"] = generator.get_state()
    numbers = {"step": step, "seconds": seconds, "recent": list(recent)}
    write_atomic(path, save(tensors, {name: json.dumps(value) for name, value in numbers.items()}))


def load_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    generator: torch.Generator,
    kept: Mapping[str, Tensor],
) -> tuple[int, float, list[float]]:
    """Restore a state in place; returns steps done, seconds used, losses since the last row of the log.

    Raises:
        SkiptuneError: damaged file, or the checkpoint of another network.
    """
    parameters = dict(network.named_parameters())
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            metadata = file.metadata() or {}
            step, seconds, recent = (json.loads(metadata[name]) for name in ("step", "seconds", "recent"))
            expected = {f"{kind}/{name}" for kind in _KINDS for name in parameters}
            if set(file.keys()) != expected | {f"kept/{name}" for name in kept} | {"generator"}:
                raise ValueError("it is the checkpoint of another network")
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
                average[name].copy_(file.get_tensor(f"average/{name}"))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    "exp_avg": torch.empty_like(parameter).copy_(file.get_tensor(f"exp_avg/{name}")),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(file.get_tensor(f"exp_avg_sq/{name}")),
                }
            for name, tensor in kept.items():
                tensor.copy_(file.get_tensor(f"kept/{name}"))
            generator.set_state(file.get_tensor("generator"))
            return step, seconds, recent
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # What it lacks, earlier versions did not write.
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise SkiptuneError(
            f"cannot continue from {path} ({reason}); delete the file to train from the beginning"
        ) from error


def saved_steps(path: Path) -> int:
    """Steps done according to a checkpoint; 0 if there is none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            return int(file.metadata()["step"])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError):
        return 0


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a loss log; what a killed process left unfinished at its end is dropped."""
    rows: list[dict[str, float]] = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace a loss log: one JSON object a line."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def append_log(path: Path, row: dict[str, float]) -> None:
    """Add one row. Raises SkiptuneError if the file cannot be written."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise unwritable(path, error) from error
