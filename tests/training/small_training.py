"""A training small enough for tests; also the program that tests start, kill or stop, and start again."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from skiptune.checkpoints.desk import save_desk_denoiser
from skiptune.runtime.stopping import stop_on_signals
from skiptune.training.checkpoint import TrainingState
from skiptune.training.loop import train
from skiptune.training.settings import DenoiserTraining

# Dropout, so that its generator counts.
DENOISER: dict[str, Any] = {
    "class": "EDMPrecond",
    "kwargs": {
        "model_type": "SongUNet",
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.1,
    },
}


def small(dropout: float = 0.1, **changes: Any) -> DenoiserTraining:
    """24 steps on digits, a log row every 2 and a checkpoint every 4 of them, decay over the last 8."""
    denoiser = copy.deepcopy(DENOISER)
    denoiser["kwargs"]["dropout"] = dropout
    values: dict[str, Any] = {
        "name": "small",
        "denoiser": denoiser,
        "dataset": "digits",
        "images": 192,
        "batch": 8,
        "learning_rate": 1e-3,
        "warmup_images": 32,
        "decay_images": 64,
        "ema_halflife": 4,
        "workers": 1,
        "checkpoint_every": 4,
        "log_every": 2,
    }
    return DenoiserTraining(**(values | changes))


def two_workers(**changes: Any) -> DenoiserTraining:
    """The run of the kill tests."""
    return small(**({"workers": 2, "log_every": 1} | changes))


def stopped(**changes: Any) -> DenoiserTraining:
    """The run of the stops, which are between two rows of the log."""
    return two_workers(**({"log_every": 5, "checkpoint_every": 2} | changes))


def export(state: TrainingState, folder: Path) -> Path:
    return save_desk_denoiser("small", DENOISER, {**state.weights, **state.average}, {}, folder)


def stop(folder: Path, number: int, after: int) -> None:
    """Train until a checkpoint, then send a signal to all processes of this program.

    ``after`` -1 "images" it is sent when the first process that helps has been started, after -2 when the
    second has been; either is importing then.
    """
    stop_on_signals()

    def send() -> None:
        while len(multiprocessing.active_children()) < -after:
            time.sleep(0.001)
        os.killpg(os.getpgid(0), number)

    def on_checkpoint(images: int, state: TrainingState) -> None:
        if images == after:
            send()

    if after < 0:
        threading.Thread(target=send, daemon=True).start()
    try:
        train(stopped(), folder, on_checkpoint=on_checkpoint, loaders=1)
    except KeyboardInterrupt as error:  # as Stopped is
        print(type(error).__name__, error)


def main(folder: Path) -> None:
    """Train with two workers; after each log row wait for a line of stdin."""
    print("starting", flush=True)

    def on_step(images: int, loss: float) -> None:
        print(images, flush=True)
        sys.stdin.readline()

    export(train(two_workers(), folder, on_step), folder)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        stop(Path(sys.argv[1]), signal.Signals[sys.argv[2]], int(sys.argv[3]))
