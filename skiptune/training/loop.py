"""The training loop: data-parallel, resumable to the identical loss sequence.

Images and noise of a step are functions of ``(seed, step, rank)``, and the generator of dropout is part of
the checkpoint, so a run that was killed and continued computes exactly what the uninterrupted run computes.
One that is told to stop finishes its step and keeps it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from skiptune.data import Dataset, load_dataset
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import remove_stale, unwritable
from skiptune.runtime.stopping import check_stop, finishing_first, stop_wanted
from skiptune.training.batches import Batch, Batches
from skiptune.training.checkpoint import (
    TrainingState,
    append_log,
    load_state,
    read_log,
    save_state,
    write_log,
)
from skiptune.training.objectives.objective import Objective
from skiptune.training.parallel import other_workers, process_group
from skiptune.training.settings import DenoiserTraining
from skiptune.training.step import TrainingStep

OnStep = Callable[[int, float], None]
OnCheckpoint = Callable[[int, TrainingState], None]


def train(
    settings: DenoiserTraining,
    folder: Path,
    on_step: OnStep | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    loaders: int = 0,
) -> TrainingState:
    """Train or continue in ``folder``; returns the final state (weights, averaged weights, loss curve).

    ``on_step(images, loss)`` is called every ``log_every`` steps, in this process, which is the first worker;
    an exception from it stops the run, which goes on from its last checkpoint when called again. The other
    workers end with this process, however that ends. ``on_checkpoint(images, state)`` is called just before a
    checkpoint is written: a run that goes on behind it has called it. Its tensors change with the next step.
    Every worker has ``loaders`` processes that make its images ahead (see ``batches``), which changes no bit.
    In a program that called ``stop_on_signals``, a signal to stop ends the run after its step, with a
    checkpoint.

    Raises:
        Stopped, KeyboardInterrupt: told to stop, and what was computed is in the checkpoint.
        SkiptuneError: a damaged or foreign checkpoint, a loss that is not finite, too few GPUs, a lost
            worker, an unwritable folder.
    """
    if settings.device == "cuda" and torch.cuda.device_count() < settings.workers:
        found = torch.cuda.device_count()
        raise SkiptuneError(f"{settings.workers} workers need a GPU each, torch sees {found}; change workers")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    remove_stale(folder)
    with (
        other_workers(settings.workers, _work, settings, folder, loaders) as rendezvous,
        finishing_first(),
    ):
        return _work(0, rendezvous, settings, folder, loaders, on_step, on_checkpoint)


def _work(
    rank: int,
    rendezvous: str,
    settings: DenoiserTraining,
    folder: Path,
    loaders: int,
    on_step: OnStep | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> TrainingState:
    on_gpu = settings.device == "cuda"
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    threads = torch.get_num_threads()
    if not on_gpu:
        torch.set_num_threads(1)
    try:
        with (
            process_group(rank, settings.workers, rendezvous, device),
            torch.random.fork_rng(devices=[device] if on_gpu else []),
        ):
            return _steps(rank, settings, folder, loaders, device, on_step, on_checkpoint)
    finally:
        torch.set_num_threads(threads)


def _steps(
    rank: int,
    settings: DenoiserTraining,
    folder: Path,
    loaders: int,
    device: torch.device,
    on_step: OnStep | None,
    on_checkpoint: OnCheckpoint | None,
) -> TrainingState:
    torch.manual_seed(settings.seed)
    take = TrainingStep(settings, device)
    objective, average, scaling = take.objective, take.average, take.scaling
    denoiser, trained, optimizer = objective.denoiser, objective.trained, take.optimizer
    # Dropout draws from it. Workers start it alike and use it alike, so one state is the state of all.
    dropout = torch.cuda.default_generators[rank] if device.type == "cuda" else torch.default_generator
    dataset = load_dataset(settings.dataset, flip=settings.flip) if objective.needs_data else None
    kept = objective.kept | ({} if scaling is None else scaling.kept)

    log, checkpoint = folder / "loss.jsonl", folder / "checkpoint.safetensors"
    first, seconds, recent = 0, 0.0, list[Tensor]()
    if checkpoint.exists():
        first, seconds, losses = load_state(checkpoint, trained, optimizer, average, dropout, kept)
        recent = [torch.tensor(loss, device=device) for loss in losses]
        if scaling is not None:  # of those steps Adam did not see all
            for moments in optimizer.state.values():
                moments["step"] -= scaling.left_out
    if first > settings.steps:
        raise SkiptuneError(f"{checkpoint} is from step {first}, the run ends at {settings.steps}; delete it")
    curve = [row for row in read_log(log) if row["images"] <= first * settings.batch] if rank == 0 else []
    if rank == 0:
        write_log(log, curve)
    started = time.perf_counter() - seconds

    def state() -> TrainingState:
        prefix = objective.exported
        exported = {name.removeprefix(prefix): a for name, a in average.items() if name.startswith(prefix)}
        return TrainingState(denoiser.state_dict(), exported, curve, time.perf_counter() - started)

    share = settings.batch // settings.workers
    starts = range(first * settings.batch + rank * share, settings.steps * settings.batch, settings.batch)
    batches = Batches(settings.dataset, "train", starts, share, settings.flip)
    check_stop()
    with contextlib.closing(batches.made(loaders)) as made:
        for step in range(first, settings.steps):
            seen = step * settings.batch
            generator = torch.Generator().manual_seed(hash_seed(settings.seed, step, rank))
            batch = None if dataset is None else next(made)
            data = functools.partial(_data, dataset, batch, objective, device)
            gradients = take(seen, data, generator)
            recent.append(gradients[-1].clone())  # a view would keep all gradients

            done, last = step + 1, step + 1 == settings.steps
            row, stop = last or done % settings.log_every == 0, rank == 0 and stop_wanted()
            save_now = last or stop or done % settings.checkpoint_every == 0
            if row or save_now:
                value = float(torch.stack(recent).mean())
                # The weights as well: what is checkpointed below can be continued from.
                if not (math.isfinite(value) and take.sound(gradients)):
                    raise SkiptuneError(
                        f"the training loss, a gradient or a weight is not finite at step {done}; "
                        "lower the learning rate and start again"
                    )
            if row:
                recent.clear()
                if rank == 0:
                    curve.append({"images": done * settings.batch, "loss": value})
                    append_log(log, curve[-1])
                    if on_step is not None:
                        on_step(done * settings.batch, value)
            if rank == 0 and save_now:
                if on_checkpoint is not None:
                    on_checkpoint(done * settings.batch, state())
                # The log rows up to here are on disk first, so that a resumed log is the uninterrupted one.
                used = time.perf_counter() - started
                losses = [float(loss) for loss in recent]
                save_state(checkpoint, trained, optimizer, average, dropout, done, used, losses, kept)
                if stop and not last:
                    check_stop()
    return state()


def _data(
    dataset: Dataset | None, batch: Batch | None, objective: Objective, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    if dataset is None or batch is None:
        raise SkiptuneError("this objective says that it needs no data, and asks for them")
    images, labels = batch
    clean = from_uint8(images.to(device)).contiguous(memory_format=torch.channels_last)
    condition = objective.condition(labels, dataset)
    return clean, None if condition is None else condition.to(device)


def hash_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed from the coordinates of a training step (splitmix64 finaliser)."""
    value = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB + 1
    value &= 2**64 - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (value ^ (value >> 31)) >> 1
