"""Steps of training with and without the skip-step loss, taken in turn: their times and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from experiments.benchmarks.timing import Timings, alternate
from skiptune.training.loop import hash_seed
from skiptune.training.objectives.objective import Data
from skiptune.training.settings import DenoiserTraining
from skiptune.training.step import TrainingStep

LOSSES: dict[str, dict[str, Any]] = {
    "plain": {"name": "noise_prediction"},
    "skip_step": {"name": "skip_step", "skip": 10},
}
AS_DDIM = {"antithetic": True, "summed": True}  # as the program that S2-DMs starts from, ermongroup/ddim


@dataclass(frozen=True)
class StepCosts:
    """Of every loss in ``LOSSES`` the seconds of its steps, and the bytes that one holds, not compiled."""

    timings: Timings
    memory: Mapping[str, int]


def step_costs(
    denoiser: Mapping[str, Any],
    batch: int,
    repeats: int,
    device: torch.device,
    precision: str = "fp32",
    compile: bool = False,
) -> StepCosts:
    """Train two networks alike but for the loss, a step of one after a step of the other, on one batch.

    A step is that of ``scripts/train.py`` on one worker, from the images on the device to the averaged
    weights; both losses draw the same times and noise. One unmeasured step of each comes first.

    Args:
        denoiser: description of the network, ``{"class": ..., "kwargs": ...}``; its weights are made anew.
        batch: images, uniform noise: what they show costs nothing.
        repeats: measured steps of each loss.

    Raises:
        SkiptuneError: a description or precision that does not fit.
    """
    settings = {
        name: DenoiserTraining(
            name=name,
            denoiser=dict(denoiser),
            dataset="noise",
            images=batch,
            batch=batch,
            learning_rate=2e-4,
            warmup_images=0,
            decay_images=0,
            max_gradient_norm=1.0,
            loss={**loss, **AS_DDIM},
            workers=1,
            precision=precision,
            compile=compile,
            device=device.type,
        )
        for name, loss in LOSSES.items()
    }
    memory = {name: held_bytes(replace(one, compile=False), device) for name, one in settings.items()}
    steps = {name: stepping(one, device) for name, one in settings.items()}
    return StepCosts(alternate(steps, batch, repeats), memory)


def stepping(settings: DenoiserTraining, device: torch.device) -> Callable[[], None]:
    """A function that takes the next step of a new training, and waits for the device."""
    torch.manual_seed(settings.seed)
    take, done = TrainingStep(settings, device), 0
    data = one_batch(take)

    def step() -> None:
        nonlocal done
        take(0, data, numbers(done))
        done += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def held_bytes(settings: DenoiserTraining, device: torch.device) -> int:
    """Bytes of tensors that a step needs.

    On a GPU the peak of what torch allocates from before the network is built. On a CPU, where torch counts
    nothing, the bytes of what a step must hold whatever the kernels do: weights, gradients, Adam's moments,
    averaged weights, and all that the forward pass saves for the backward pass, each storage once. Neither
    depends on the machine's load.
    """
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    torch.manual_seed(settings.seed)
    take = TrainingStep(settings, device)
    data = one_batch(take)
    take(0, data, numbers(0))  # Adam's moments are made by the first step
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        take(0, data, numbers(1))
        return torch.cuda.max_memory_allocated(device) - before
    kept = [*take.objective.parameters(), *take.objective.buffers(), *take.average.values()]
    moments = [value for state in take.optimizer.state.values() for value in state.values()]
    lasting = storages([*kept, *moments])
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved.update(storages([tensor]))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        take(0, data, numbers(1))
    gradients = storages([p.grad for p in take.parameters.values() if p.grad is not None])
    passing = {pointer: size for pointer, size in saved.items() if pointer not in lasting}
    return sum(sum(part.values()) for part in (lasting, gradients, passing))


def storages(tensors: list[Tensor]) -> dict[int, int]:
    """Address -> bytes of the memory behind these tensors; several may share one."""
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def one_batch(take: TrainingStep) -> Data:
    """Uniform noise in [-1, 1] in place of images, on the device, without labels."""
    shape = (take.settings.batch, *take.objective.denoiser.image_shape)
    images = torch.rand(shape, generator=Generator().manual_seed(0)) * 2 - 1
    images = images.to(take.device, memory_format=torch.channels_last)
    return lambda: (images, None)


def numbers(step: int) -> Generator:
    """Times and noise of a step, as the training loop makes them."""
    return Generator().manual_seed(hash_seed(0, step, 0))
