"""The training loop of a denoiser: data-parallel, resumable to the identical loss sequence.

All randomness of a step is a function of ``(seed, step, rank)``, so a run that was killed and continued from its last
checkpoint computes exactly what the uninterrupted run computes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from skiptune.checkpoints.desk import build_denoiser
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.training.checkpoint import TrainingState, load_state, save_state
from skiptune.training.losses import EDMLoss


@dataclass(frozen=True)
class DenoiserTraining:
    """Everything that determines a training run.

    Attributes:
        denoiser: ``{"class": "EDMPrecond", "kwargs": {...}}``.
        dataset: name of the data set; its split ``train`` is used, image ``i`` of the run being seed ``i``.
        images: training images in total; ``batch`` per step over all workers.
        learning_rate: Adam; linear warm-up over ``warmup_images``, linear decay to 0 over the last ``decay_images``.
        ema_halflife: half-life of the averaged weights in images, at most 5% of the images seen (EDM's ramp-up).
        workers: data-parallel processes, each with one thread on the CPU.
        precision: ``fp32``, or ``bf16`` for autocast with fp32 weights.
        compile: compile the network (about 1.4 times faster on a CPU, needs a C++ compiler).
        device: ``cpu`` or ``cuda`` (one GPU per worker).
    """

    name: str
    denoiser: dict[str, Any]
    dataset: str
    images: int
    batch: int = 128
    learning_rate: float = 1e-3
    warmup_images: int = 20_000
    decay_images: int = 500_000
    ema_halflife: int = 50_000
    loss: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    workers: int = 2
    precision: str = "fp32"
    compile: bool = False
    device: str = "cpu"
    checkpoint_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.batch % self.workers:
            raise SkiptuneError(f"batch {self.batch} does not divide among {self.workers} workers; change one of them")
        if self.precision not in ("fp32", "bf16"):
            raise SkiptuneError(f"precision {self.precision!r} is unknown; choose fp32 or bf16")
        if self.checkpoint_every % self.log_every:
            raise SkiptuneError("checkpoint_every must be a multiple of log_every, so that a resumed log has no half averages")

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def learning_rate_at(self, images: int) -> float:
        """Learning rate after ``images`` training images."""
        up = min(1.0, (images + self.batch) / max(self.warmup_images, 1))
        down = min(1.0, (self.images - images) / max(self.decay_images, 1))
        return self.learning_rate * max(0.0, min(up, down))

    def ema_decay_at(self, images: int) -> float:
        """Factor of the averaged weights for one step after ``images`` training images."""
        halflife = min(self.ema_halflife, 0.05 * images)
        return 0.5 ** (self.batch / max(halflife, 1e-8))


def train(settings: DenoiserTraining, folder: Path, on_step: Callable[[int, float], None] | None = None) -> TrainingState:
    """Train or continue in ``folder``; returns the final state (weights, averaged weights, loss curve).

    ``on_step(images, loss)`` is called every ``log_every`` steps, in this process, which is the first worker. When it is
    killed the others end at their next exchange of gradients.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as rendezvous:
        method = f"file://{rendezvous}/store"
        context = torch.multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_other_worker, args=(rank, settings, folder, method), daemon=True)
            for rank in range(1, settings.workers)
        ]
        for process in others:
            process.start()
        try:
            return _work(0, settings, folder, method, on_step)
        finally:
            for process in others:
                process.join(timeout=10)
                process.kill()


def _other_worker(rank: int, settings: DenoiserTraining, folder: Path, method: str) -> None:
    _work(rank, settings, folder, method, None)


def _work(
    rank: int, settings: DenoiserTraining, folder: Path, method: str, on_step: Callable[[int, float], None] | None
) -> TrainingState:
    on_gpu = settings.device == "cuda"
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    threads = torch.get_num_threads()
    if not on_gpu:
        torch.set_num_threads(1)
    if settings.workers > 1:
        dist.init_process_group("nccl" if on_gpu else "gloo", init_method=method, rank=rank, world_size=settings.workers)
    try:
        return _steps(rank, settings, folder, device, on_step)
    finally:
        torch.set_num_threads(threads)
        if settings.workers > 1:
            dist.destroy_process_group()


def _steps(
    rank: int, settings: DenoiserTraining, folder: Path, device: torch.device, on_step: Callable[[int, float], None] | None
) -> TrainingState:
    torch.manual_seed(settings.seed)
    denoiser = build_denoiser(settings.denoiser).to(device, memory_format=torch.channels_last).train()
    if settings.compile:
        denoiser.model.compile(dynamic=False)
    parameters = dict(denoiser.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
    average = {name: p.detach().clone() for name, p in parameters.items()}
    loss_function = EDMLoss(**settings.loss)
    dataset = load_dataset(settings.dataset)

    log = folder / "loss.jsonl"
    checkpoint = folder / "checkpoint.safetensors"
    first, seconds = 0, 0.0
    if checkpoint.exists():
        first, seconds = load_state(checkpoint, denoiser, optimizer, average)
    curve = [row for row in _read_log(log) if row["images"] <= first * settings.batch] if rank == 0 else []
    if rank == 0:
        log.write_text("".join(json.dumps(row) + "\n" for row in curve))
    started = time.perf_counter() - seconds

    share = settings.batch // settings.workers
    recent: list[Tensor] = []
    for step in range(first, settings.steps):
        seen = step * settings.batch
        generator = torch.Generator().manual_seed(hash_seed(settings.seed, step, rank))
        indices = range(seen + rank * share, seen + (rank + 1) * share)
        images, labels = dataset.batch(indices, "train")
        clean = from_uint8(images).to(device, memory_format=torch.channels_last)
        condition = F.one_hot(labels, denoiser.num_classes).float().to(device) if denoiser.num_classes else None
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = loss_function(denoiser, clean, condition, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in parameters.values()] + [loss.detach().reshape(1)])
        if settings.workers > 1:
            dist.all_reduce(gradients)
            gradients /= settings.workers
        pieces = gradients[:-1].split([p.numel() for p in parameters.values()])
        for parameter, piece in zip(parameters.values(), pieces, strict=True):
            parameter.grad.copy_(piece.reshape(parameter.shape))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(seen)
        optimizer.step()
        decay = settings.ema_decay_at(seen + settings.batch)
        torch._foreach_lerp_(list(average.values()), list(parameters.values()), 1 - decay)
        recent.append(gradients[-1])

        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            value = float(torch.stack(recent).mean())
            recent.clear()
            if value != value:
                raise SkiptuneError(f"the training loss is NaN at step {done}; lower the learning rate and start again")
            if rank == 0:
                row = {"images": done * settings.batch, "loss": value}
                curve.append(row)
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                if on_step is not None:
                    on_step(done * settings.batch, value)
        if rank == 0 and (done % settings.checkpoint_every == 0 or done == settings.steps):
            # The log rows up to here are on disk first, so that a resumed log is the uninterrupted one.
            save_state(checkpoint, denoiser, optimizer, average, done, time.perf_counter() - started)
    return TrainingState(denoiser.state_dict(), average, curve, time.perf_counter() - started)


def hash_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed from the coordinates of a training step (splitmix64 finaliser)."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB + 1) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (value ^ (value >> 31)) >> 1


def _read_log(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of a killed process
            break
    return rows
