"""Train a desk network. A killed denoiser run goes on from its last checkpoint; classifiers start anew."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "train")  # before the imports that take seconds

import dataclasses
from pathlib import Path
from typing import Any

from scripts.shared.common import command, open_tracker
from scripts.shared.exports import check_passed_snapshots, check_replaced
from skiptune.checkpoints.desk import save_coefficients, save_desk_denoiser
from skiptune.checkpoints.models import resolve_model
from skiptune.data import check_dataset, load_dataset
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.progress import Progress
from skiptune.runtime.provenance import commit, device_name, package_versions
from skiptune.runtime.store import run_id
from skiptune.runtime.tracking import RunInfo
from skiptune.runtime.workers import default_workers
from skiptune.training.autoencoder import AutoencoderTraining, train_and_save_autoencoder
from skiptune.training.checkpoint import TrainingState, saved_steps
from skiptune.training.classification import ClassifierTraining, train_and_save
from skiptune.training.contrastive import ContrastiveTraining, train_and_save_pair
from skiptune.training.fields import known_settings
from skiptune.training.loop import OnCheckpoint, train
from skiptune.training.objectives import new_weights
from skiptune.training.objectives.inputs import inputs_of
from skiptune.training.objectives.skip_coefficients import coefficients
from skiptune.training.settings import DenoiserTraining

MOST_LOADERS = 16  # of each worker
OF_MODEL = ("name", "denoiser", "dataset")  # settings that the model's configuration gives


@command("train")
def main(config: dict[str, Any]) -> None:
    training = dict(config["training"])
    kind = training.pop("kind")
    if world().size > 1:
        raise SkiptuneError("a training starts its own processes: give training.workers, without torchrun")
    trainings = {
        "denoiser": train_denoiser,
        "skip_coefficients": train_skip_coefficients,
        "classifier": train_classifiers,
        "autoencoder": train_autoencoder,
        "contrastive": train_scorer,
    }
    if not isinstance(kind, str) or kind not in trainings:
        raise SkiptuneError(f"training.kind is {kind!r}; choose one of {', '.join(trainings)}")
    if config["suffix"] and kind != "denoiser":
        raise SkiptuneError(f"a suffix names denoisers apart; for a {kind} give another `export`")
    trainings[kind](config, training)


def train_denoiser(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train or continue one denoiser and export its averaged weights.

    ``snapshots``, a list of ``{images, name}``, exports them at these numbers of images too, each as a model
    of its own: what the run gives that ends there.

    Raises:
        SkiptuneError: a snapshot where there is no checkpoint, in the decay of the learning rate, or that an
            earlier call went past without exporting it to the same folder; as ``check_replaced``.
    """
    model, export, suffix = config["model"], Path(config["export"]), config["suffix"]
    names = snapshot_names(training.pop("snapshots", []), suffix)
    known_settings(training, DenoiserTraining, elsewhere=OF_MODEL)
    settings = DenoiserTraining(
        name=model["name"] + suffix, denoiser=model["denoiser"], dataset=model["dataset"], **training
    )
    for images in names:
        if images % (settings.checkpoint_every * settings.batch):
            raise SkiptuneError(f"there is no checkpoint at the snapshot of {images} images; choose another")
        if images > settings.images - settings.decay_images:
            raise SkiptuneError(f"the learning rate decays before the snapshot of {images} images")
    started_at, inputs = commit(), inputs_of(settings.loss)

    snapshots = {
        images: dataclasses.replace(settings, name=name, images=images) for images, name in names.items()
    }
    check_passed_snapshots(snapshots, inputs, folder_of(config, settings, inputs), export)
    check_replaced(config, settings, *snapshots.values())
    if new := new_weights(settings.loss, build_denoiser(settings.denoiser)):
        print(f"trained from the start, since the initial network lacks them: {', '.join(new)}")

    def save(own: DenoiserTraining, state: TrainingState) -> None:
        weights, record = {**state.weights, **state.average}, record_of(own, inputs, state, started_at)
        path = save_desk_denoiser(own.name, own.denoiser, weights, record, export)
        print(f"wrote {path} and {path.with_suffix('.json')}")

    def on_checkpoint(images: int, state: TrainingState) -> None:
        if images in snapshots:
            save(snapshots[images], state)

    save(settings, run(config, settings, inputs, on_checkpoint))


def snapshot_names(snapshots: Any, suffix: str) -> dict[int, str]:
    """Names by numbers of images. Raises SkiptuneError for anything but a list of ``{images, name}``."""
    for each in snapshots if isinstance(snapshots, list) else [snapshots]:
        sound = isinstance(each, dict) and set(each) == {"images", "name"}
        if not sound or type(each["images"]) is not int or type(each["name"]) is not str:
            raise SkiptuneError(f"training.snapshots has {each!r}; it must be a list of {{images, name}}")
    return {each["images"]: each["name"] + suffix for each in snapshots}


def train_skip_coefficients(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Learn the skip coefficients of the model, which is also the teacher, and export their average.

    Raises:
        SkiptuneError: the model is not the teacher; as ``check_replaced``.
    """
    model = config["model"]
    known_settings(training, DenoiserTraining, elsewhere=OF_MODEL[1:])
    name = training["name"]
    settings = DenoiserTraining(denoiser=model["denoiser"], dataset=model["dataset"], **training)
    started_at, inputs = commit(), inputs_of(settings.loss)
    sha256 = resolve_model(model, Path(str(settings.loss.get("checkpoints", "checkpoints")))).sha256
    if sha256 != inputs["teacher"]:
        teacher = settings.loss["teacher"]
        right = teacher if isinstance(teacher, str) else teacher["name"]
        raise SkiptuneError(f"{name} is learned on {right}, not on {model['name']}; give model={right}")
    check_replaced(config, settings)
    state = run(config, settings, inputs)
    rho = coefficients(state.average["value"], settings.loss["bounded"]).cpu()
    record = record_of(settings, inputs, state, started_at)
    path = save_coefficients(name, rho, sha256, record, Path(config["export"]))
    print(f"wrote {path}: {', '.join(f'{value:.3f}' for value in rho.tolist())}")


def run(
    config: dict[str, Any],
    settings: DenoiserTraining,
    inputs: dict[str, str],
    on_checkpoint: OnCheckpoint | None = None,
) -> TrainingState:
    """Train or continue with progress and tracker. Raises SkiptuneError for an unknown data set."""
    check_dataset(settings.dataset)  # before the workers start
    if config["download"]:  # before the workers, who read the same files
        load_dataset(settings.dataset, download=True)
    described, folder = {**dataclasses.asdict(settings), **inputs}, folder_of(config, settings, inputs)
    info = RunInfo(
        id=run_id(described),
        name=settings.name,
        group="training",
        job="training",
        tags=("training", settings.dataset, str(settings.loss["name"])),
        config=described,
    )
    tracker = open_tracker(config["tracker"], info, Path(str(config["outputs"])))
    before = saved_steps(folder / "checkpoint.safetensors") * settings.batch
    total = settings.steps * settings.batch
    with Progress(total, label=f"train {settings.name}", initial=before) as progress:

        def on_step(images: int, loss: float) -> None:
            progress.advance(images - progress.done)
            tracker.log({"loss": loss, "learning_rate": settings.learning_rate_at(images)}, step=images)

        loaders = loaders_of(config, settings.device, settings.workers)
        state = train(settings, folder, on_step, on_checkpoint, loaders)
    tracker.summary({"seconds": state.seconds, "loss": state.curve[-1]["loss"]})
    tracker.finish()
    return state


def loaders_of(config: dict[str, Any], device: str, workers: int = 1) -> int:
    """Processes that make images ahead, of each worker; ``auto``: none on a CPU, else the other cores.

    Raises:
        SkiptuneError: no such number.
    """
    loaders = config["loaders"]
    if loaders == "auto":
        return 0 if device == "cpu" else min(MOST_LOADERS, max(1, default_workers() // workers - 1))
    if type(loaders) is not int or loaders < 0:
        raise SkiptuneError(f"loaders is {loaders!r}; give a number from 0, or auto")
    return loaders


def folder_of(config: dict[str, Any], settings: DenoiserTraining, inputs: dict[str, str]) -> Path:
    """Where a training has its checkpoint: named by all that determines it."""
    identity = run_id({**dataclasses.asdict(settings), **inputs})
    return Path(str(config["outputs"])) / "training" / f"{settings.name}-{identity[:8]}"


def record_of(
    settings: DenoiserTraining, inputs: dict[str, str], state: TrainingState, started_at: str
) -> dict[str, Any]:
    """The training record that lies beside what is exported; ``inputs`` as of ``inputs_of``."""
    stride = max(1, len(state.curve) // 200)
    return {
        "settings": dataclasses.asdict(settings),
        "inputs": inputs,
        "commit": started_at,
        "packages": package_versions(),
        "device": device_name(settings.device),
        "duration_seconds": round(state.seconds, 1),
        "parameters": sum(average.numel() for average in state.average.values()),
        # Counted from the end, so that the final loss is in it.
        "loss_curve": [[row["images"], round(row["loss"], 5)] for row in state.curve[::-stride][::-1]],
    }


def train_classifiers(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train the named classifiers one after the other; what is not named is as for the shipped ones."""
    names = training.pop("names", None)
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        raise SkiptuneError(f"training.names is {names!r}; it must be a list: training.names=[glyphs_cnn]")
    of_name = ("name", "dataset", "architecture")
    known_settings(training, ClassifierTraining, elsewhere=of_name)
    several = [ClassifierTraining.desk(name, **training) for name in names]
    check_replaced(config, *several)
    for settings in several:
        name = settings.name
        with Progress(100, unit="%", label=f"train {name}") as progress:

            def on_step(step: int, total: int, loss: float, progress: Progress = progress) -> None:
                progress.advance(100 * step // total - progress.done)

            record = train_and_save(settings, Path(config["export"]), on_step)
        print(f"wrote {name}: {record['heldout_accuracy']:.1%} of the held-out images right")


def train_autoencoder(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train the autoencoder of a latent model; it starts anew."""
    known_settings(training, AutoencoderTraining)
    settings = AutoencoderTraining(**training)
    check_replaced(config, settings)
    with Progress(settings.steps, unit="steps", label=f"train {settings.name}") as progress:

        def on_step(step: int, total: int, loss: float) -> None:
            progress.advance(step - progress.done)

        record = train_and_save_autoencoder(settings, Path(config["export"]), on_step)
    psnr, scale = record["heldout_psnr"], 1 / record["latent_std"]
    print(f"wrote {settings.name}: {psnr:.1f} dB on held-out images, unit latents at scale {scale:.4f}")


def train_scorer(config: dict[str, Any], training: dict[str, Any]) -> None:
    """Train an image-text scorer; it starts anew."""
    known_settings(training, ContrastiveTraining)
    settings = ContrastiveTraining(**training)
    check_replaced(config, settings)
    loaders = loaders_of(config, settings.device)
    with Progress(settings.steps, unit="steps", label=f"train {settings.name}") as progress:

        def on_step(step: int, total: int, loss: float) -> None:
            progress.advance(step - progress.done)

        record = train_and_save_pair(settings, Path(config["export"]), on_step, loaders)
    found, among = record["heldout_retrieval"], record["heldout_images"]
    print(f"wrote {settings.name}: {found:.1%} of {among} held-out images find their prompt among all")


if __name__ == "__main__":
    main()
