"""Train a desk network. A killed denoiser run goes on from its last checkpoint; classifiers start anew."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import dataclasses
from pathlib import Path
from typing import Any

from scripts.common import command, open_tracker
from skiptune.checkpoints.desk import save_desk_denoiser
from skiptune.data import load_dataset
from skiptune.runtime.progress import Progress
from skiptune.runtime.provenance import commit, device_name, package_versions
from skiptune.runtime.store import run_id
from skiptune.training.autoencoder import AutoencoderTraining, train_and_save_autoencoder
from skiptune.training.checkpoint import saved_steps
from skiptune.training.classification import ClassifierTraining, train_and_save
from skiptune.training.loop import train
from skiptune.training.settings import DenoiserTraining


@command("train")
def main(config: dict[str, Any]) -> None:
    training = dict(config["training"])
    kind = training.pop("kind")
    trainings = {
        "denoiser": train_denoiser,
        "classifier": train_classifiers,
        "autoencoder": train_autoencoder,
    }
    trainings[kind](config, training)


def train_denoiser(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train or continue one denoiser and export its averaged weights."""
    model = config["model"]
    settings = DenoiserTraining(
        name=model["name"], denoiser=model["denoiser"], dataset=model["dataset"], **training
    )
    if config["download"]:  # before the workers, who read the same files
        load_dataset(settings.dataset, download=True)
    identity = run_id(dataclasses.asdict(settings))
    folder = Path(str(config["outputs"])) / "training" / f"{settings.name}-{identity[:8]}"
    started_at = commit()
    tracker = open_tracker(config["tracker"], identity, dataclasses.asdict(settings), folder)
    before = saved_steps(folder / "checkpoint.safetensors") * settings.batch
    total = settings.steps * settings.batch
    with Progress(total, label=f"train {settings.name}", initial=before) as progress:

        def on_step(images: int, loss: float) -> None:
            progress.advance(images - progress.done)
            tracker.log({"loss": loss, "learning_rate": settings.learning_rate_at(images)}, step=images)

        state = train(settings, folder, on_step)
    tracker.summary({"seconds": state.seconds, "loss": state.curve[-1]["loss"]})
    tracker.finish()

    stride = max(1, len(state.curve) // 200)
    record = {
        "settings": dataclasses.asdict(settings),
        "commit": started_at,
        "packages": package_versions(),
        "device": device_name(settings.device),
        "duration_seconds": round(state.seconds, 1),
        "parameters": sum(average.numel() for average in state.average.values()),
        # Counted from the end, so that the final loss is in it.
        "loss_curve": [[row["images"], round(row["loss"], 5)] for row in state.curve[::-stride][::-1]],
    }
    weights = {**state.weights, **state.average}
    path = save_desk_denoiser(settings.name, settings.denoiser, weights, record, Path(config["export"]))
    print(f"wrote {path} and {path.with_suffix('.json')}")


def train_classifiers(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train the named classifiers one after the other; what is not named is as for the shipped ones."""
    for name in training.pop("names"):
        settings = ClassifierTraining.desk(name, **training)
        with Progress(100, unit="%", label=f"train {name}") as progress:

            def on_step(step: int, total: int, loss: float, progress: Progress = progress) -> None:
                progress.advance(100 * step // total - progress.done)

            record = train_and_save(settings, Path(config["export"]), on_step)
        print(f"wrote {name}: {record['heldout_accuracy']:.1%} of the held-out images right")


def train_autoencoder(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train the autoencoder of a latent model; it starts anew."""
    settings = AutoencoderTraining(**training)
    with Progress(settings.steps, unit="steps", label=f"train {settings.name}") as progress:

        def on_step(step: int, total: int, loss: float) -> None:
            progress.advance(step - progress.done)

        record = train_and_save_autoencoder(settings, Path(config["export"]), on_step)
    psnr, scale = record["heldout_psnr"], 1 / record["latent_std"]
    print(f"wrote {settings.name}: {psnr:.1f} dB on held-out images, unit latents at scale {scale:.4f}")


if __name__ == "__main__":
    main()
