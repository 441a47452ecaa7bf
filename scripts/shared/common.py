"""What all command-line entry points share: one clear line for a mistake, plain values instead of Hydra's."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from experiments.bench import Bench
from experiments.config_files import CONFIGS
from experiments.tracking.runs import Tracked
from scripts.shared.complaints import check_keys, check_places, explained
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.runtime.claims import claiming
from skiptune.runtime.distributed import join, leave, stop_together, tell_others, world
from skiptune.runtime.files import write_atomic
from skiptune.runtime.micro_batch import with_fitting_micro_batch
from skiptune.runtime.provenance import device
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.stopping import STOPPED, Stopped, stop_on_signals
from skiptune.runtime.store import RunStore
from skiptune.runtime.tracking import RunInfo, Tracker, check_tracker, default_tracker, make_tracker
from skiptune.runtime.workers import Workers, default_workers

USER_ERROR, INTERRUPTED = 2, 130  # exit codes
GENERATION = ("sampler", "intervention", "micro_batch", "noise_device", "precision", "compile")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as nested dicts, lists and scalars.

    Raises:
        SkiptuneError: a missing value, an interpolation that cannot be resolved, a folder that is none.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SkiptuneError(f"configuration: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    check_places(values)  # type: ignore[arg-type]
    return values  # type: ignore[return-value]


def settings_of(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` arguments over ``configs/<name>.yaml``, for programs that need no groups of Hydra's.

    Raises:
        SkiptuneError: a key that the file does not have, or a value that is no YAML.
    """
    base = OmegaConf.load(CONFIGS / f"{name}.yaml")
    OmegaConf.set_struct(base, True)
    if wrong := [argument for argument in arguments if argument.partition("=")[0] not in base]:
        raise SkiptuneError(f"{wrong[0]!r} is no setting: write key=value; keys: {', '.join(map(str, base))}")
    try:
        config = OmegaConf.merge(base, OmegaConf.from_dotlist(list(arguments)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise SkiptuneError(str(error).splitlines()[0]) from error
    assert isinstance(config, DictConfig)
    return plain(config)


def command(name: str) -> Callable[[Callable[[dict[str, Any]], None]], Callable[[], None]]:
    """Make ``function(plain configuration)`` the program of ``configs/<name>.yaml``.

    A user error is one line on stderr and exit code 2. In a sweep the other jobs still run first.
    """

    def decorate(function: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        started = failed = False

        @functools.wraps(function)
        def job(config: DictConfig) -> None:
            nonlocal started, failed
            started = True
            try:
                join()
                check_launcher()
                check_keys(CONFIGS / f"{name}.yaml", values := plain(config))
                function(values)
            except (SkiptuneError, OSError) as error:
                sweep = HydraConfig.get().mode == RunMode.MULTIRUN
                complain(f"{error} (job {' '.join(HydraConfig.get().overrides.task)})" if sweep else error)
                # Under torchrun a job given up by one rank only would leave the others waiting.
                if not sweep or world().size > 1:
                    tell_others(error)
                    raise SystemExit(USER_ERROR) from None
                failed = True

        program = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(job)

        @functools.wraps(function)
        def main() -> None:
            # Hydra then leaves its errors to us instead of printing a page.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            stop_on_signals()
            try:
                program()
                leave()
            except Stopped as error:
                stop(error)
            except KeyboardInterrupt:
                complain("stopped; what was computed is kept, the same command goes on from there", "")
                raise SystemExit(INTERRUPTED) from None
            except Exception as error:
                # Before the first job it is the command line that Hydra cannot make sense of.
                ours = (SkiptuneError, HydraException, OmegaConfBaseException, OSError)
                if started and not isinstance(error, ours):
                    tell_others(f"{type(error).__name__}: {error}")
                    raise
                complain(error)
                raise SystemExit(USER_ERROR) from None
            if failed:
                raise SystemExit(USER_ERROR)

        return main

    return decorate


def check_launcher() -> None:
    """Raises SkiptuneError for a launcher outside of a sweep: Hydra would pass it over and compute here."""
    chosen = HydraConfig.get()
    if chosen.mode == RunMode.RUN and (name := chosen.runtime.choices["hydra/launcher"]) != "basic":
        raise SkiptuneError(
            f"launcher={name} starts the jobs of a sweep: add -m, or leave it out to compute here"
        )


def stop(error: Stopped) -> NoReturn:
    """End as a process that was told to stop; with the others if there is time to finish what is at hand."""
    said = f"stopped by {error}; what was computed is kept, the same command goes on"
    if error.at_once:
        tell_others(f"it was stopped by {error}")
        complain(said, "")
        raise SystemExit(STOPPED) from None
    try:
        if world().is_main:
            complain(said, "")
        stop_together()
    except SkiptuneError as failure:  # of another
        complain(failure)
        raise SystemExit(USER_ERROR) from None
    raise SystemExit(STOPPED) from None


def complain(error: object, prefix: str = "error: ") -> None:
    """One line on stderr."""
    print(prefix + explained(error), file=sys.stderr, flush=True)


def check_writable(folder: Path) -> None:
    """Raises SkiptuneError if no file can be written there."""
    probe = folder / f".probe-{os.getpid()}"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def open_tracker(settings: dict[str, Any], info: RunInfo, folder: Path) -> Tracker:
    """The tracker of a configuration. Raises SkiptuneError as ``make_tracker``."""
    group = settings["group"] or info.group
    options = {"mode": settings["mode"], "project": settings["project"], "folder": folder}
    return make_tracker(tracker_name(settings), dataclasses.replace(info, group=group), **options)


def tracker_name(settings: dict[str, Any]) -> str:
    """The tracker that a configuration names; ``auto`` is wandb where it is installed."""
    return default_tracker() if settings["name"] == "auto" else settings["name"]


def check_tracking(config: dict[str, Any]) -> None:
    """Raises SkiptuneError now for what would stop the tracker at the end."""
    settings = config["tracker"]
    check_tracker(tracker_name(settings), settings["mode"], Path(str(config["outputs"])))


def track(config: dict[str, Any], runs: Sequence[Tracked]) -> None:
    """Hand runs over to the tracker of a configuration, each once: a table made again gives no second copy.

    A mark beside what the tracker wrote says so; delete the tracker's folder, and all is handed over anew.
    """
    settings, outputs = config["tracker"], Path(str(config["outputs"]))
    name = tracker_name(settings)
    if name == "none":
        return
    for run in runs:
        mark = outputs / name / "handed-over" / settings["mode"] / run.info.id
        with claiming([mark]) as mine:  # none if it is there, or another process is handing it over now
            if mine and run.hand_over(open_tracker(settings, run.info, outputs)):
                write_atomic(mark, b"")


def processors(config: dict[str, Any]) -> tuple[str, Workers]:
    """Device and workers of a configuration; the pool is kept for the other jobs of a sweep."""
    chosen = device(config["device"])
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # under torchrun every process has a GPU of its own
        # Full float32 and fixed algorithms: the same bits on the same kind of GPU.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    count = config["workers"]
    if count == "auto":
        # Under torchrun every process is one worker; a GPU is driven by one process.
        count = 1 if world().size > 1 or chosen.type == "cuda" else default_workers()
    if type(count) is not int:
        raise SkiptuneError(f"workers is {count!r}; give a number or auto")
    return chosen.type, pool(count)


@contextlib.contextmanager
def make_bench(config: dict[str, Any]) -> Iterator[Bench]:
    """Run store, device and workers of a configuration."""
    chosen, workers = processors(config)
    yield Bench(RunStore(str(config["outputs"])), workers, chosen)


def generation_of(config: dict[str, Any], device: str) -> dict[str, Any]:
    """Arguments of the ``Generation`` that a resolved configuration describes.

    Raises:
        SkiptuneError: a missing file.
    """
    return {
        "model": resolve_model(config["model"], Path(str(config["checkpoints"]))),
        "device": device,
        **{key: config[key] for key in GENERATION},
    }


def sampling_of(config: dict[str, Any], device: str) -> SamplingSettings:
    """The sampling that a resolved configuration describes.

    Raises:
        SkiptuneError: a missing file, a model that its settings or features do not fit.
    """
    features = ExtractorRef.resolve(config["features"], Path(str(config["checkpoints"])))
    auto = config["micro_batch"] == "auto"
    made = generation_of({**config, "micro_batch": CHUNK} if auto else config, device)
    settings = SamplingSettings(**made, features=features)
    settings.check()
    return with_fitting_micro_batch(settings, RunStore(str(config["outputs"]))) if auto else settings


@functools.cache
def pool(count: int) -> Workers:
    """One pool of workers per process, so that a sweep starts them once; they end with the process."""
    workers = Workers(count)
    atexit.register(workers.__exit__, None, None, None)
    return workers
