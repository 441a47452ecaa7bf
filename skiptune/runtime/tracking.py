"""Experiment tracking: nothing, or Weights & Biases online or offline. Tracking never stops a run."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import unwritable

log = logging.getLogger(__name__)

STEP = "images"
_FINISH_SECONDS = 60.0


class Tracker(Protocol):
    """Where a run's curves, final values and pictures go. `step` is the number of images so far."""

    def log(self, values: Mapping[str, Any], step: int) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None: ...

    def image(self, name: str, path: str | Path) -> None: ...

    def finish(self) -> None: ...


def default_tracker() -> str:
    """'wandb' where it is installed, else 'none'."""
    spec = importlib.util.find_spec("wandb")
    # A folder ./wandb of former runs looks like a package without origin.
    return "wandb" if spec is not None and spec.origin is not None else "none"


def make_tracker(
    name: str,
    *,
    mode: str = "offline",
    project: str = "skiptune",
    run_id: str = "",
    group: str = "",
    config: Mapping[str, Any] | None = None,
    folder: str | Path = ".",
    init_timeout: float = 15.0,
) -> Tracker:
    """A tracker that never asks and never waits longer than `init_timeout` seconds to start.

    name: 'none' or 'wandb'. mode: 'offline' or 'online'; online without a network warns and goes on offline.
    run_id: content hash of what is computed. folder: everything wandb writes goes under it.
    Raises SkiptuneError for an unknown name or mode, wandb not installed, online without a key.
    """
    if name == "none":
        return NoTracker()
    if name != "wandb":
        raise SkiptuneError(f"unknown tracker '{name}': use wandb or none")
    if mode not in ("offline", "online"):
        raise SkiptuneError(f"unknown tracker mode '{mode}': use offline or online")
    if default_tracker() != "wandb":
        raise SkiptuneError("tracker 'wandb' is not installed: pip install wandb, or use tracker none")
    return WandbTracker(_start(mode, project, run_id, group, dict(config or {}), Path(folder), init_timeout))


class NoTracker:
    """Keeps nothing."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        return None

    def summary(self, values: Mapping[str, Any]) -> None:
        return None

    def image(self, name: str, path: str | Path) -> None:
        return None

    def finish(self) -> None:
        return None


class WandbTracker:
    """A wandb run whose failures are reported once, as a warning, and otherwise ignored."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._warned = False
        self._step = 0

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Values at `step` images."""
        self._step = step
        self._try(lambda: self._run.log({**values, STEP: step}))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run."""
        self._try(lambda: self._run.summary.update(dict(values)))

    def image(self, name: str, path: str | Path) -> None:
        """A picture file, at the last logged step."""
        import wandb

        self._try(lambda: self._run.log({name: wandb.Image(str(path)), STEP: self._step}))

    def finish(self) -> None:
        """Close the run; an upload that the network holds up is given up after a minute and stays on disk."""
        self._try(self._run.finish)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            if not self._warned:
                log.warning("tracking failed, the run goes on without it: %s", _one_line(error))
            self._warned = True


def _start(
    mode: str, project: str, run_id: str, group: str, config: dict[str, Any], folder: Path, timeout: float
) -> Any:
    import wandb

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[variable] = str(folder.absolute() / "wandb")
    wandb.setup(settings=wandb.Settings(silent=True))
    if mode == "online" and not _has_key():
        raise SkiptuneError("wandb has no API key, online needs one: run `wandb login`, or use mode offline")

    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=timeout,
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
    )

    def start(mode: Literal["offline", "online"]) -> Any:
        run = wandb.init(
            project=project,
            id=run_id or None,
            group=group or None,
            config=config,
            dir=str(folder),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="finish_previous",
            settings=settings,
        )
        run.define_metric("*", step_metric=STEP)
        return run

    if mode == "online":
        try:
            return start("online")
        except Exception as error:
            log.warning("wandb is not reachable, tracking offline in %s: %s", folder, _one_line(error))
            wandb.teardown()  # else the run's id counts as in use
    try:
        return start("offline")
    except Exception as error:
        raise SkiptuneError(f"wandb cannot start ({_one_line(error)}): use tracker none") from error


def _has_key() -> bool:
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except Exception as error:
        raise SkiptuneError(f"wandb's API key is unusable ({_one_line(error)}): run `wandb login`") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
