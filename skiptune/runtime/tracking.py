"""Experiment tracking: nothing, Weights & Biases (online or offline), Trackio. It never stops a run."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import unwritable

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

# The axis of every curve. The trackers' own steps start at 0 again when a killed run goes on; images do not.
STEP = "images"
TRACKERS = ("none", "wandb", "trackio")
MODES = ("offline", "online")
Picture: TypeAlias = "str | Path | np.ndarray"
"""A picture file, or uint8 ``[H, W, 3]``."""


class Tracker(Protocol):
    """Where a run's curves, final values, pictures and tables go. `step` is the number of images so far."""

    def log(self, values: Mapping[str, Any], step: int) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None: ...

    def image(self, name: str, picture: Picture) -> None: ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def finish(self) -> bool:
        """Close the run; whether all of it was taken."""
        ...


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told of a run.

    Attributes:
        id: content hash of what is computed, the same after a restart.
        group: runs that belong together; job: the kind of run.
    """

    id: str = ""
    name: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""


class NoTracker:
    """Keeps nothing."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        return None

    def summary(self, values: Mapping[str, Any]) -> None:
        return None

    def image(self, name: str, picture: Picture) -> None:
        return None

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        return None

    def finish(self) -> bool:
        return True


class Attempts:
    """Calls whose failures are reported once, as a warning, and otherwise ignored."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            if not self.failed:
                log.warning("tracking failed, the run goes on without it: %s", one_line(error))
            self.failed = True


def default_tracker() -> str:
    """'wandb' where it is installed, else 'none'."""
    return "wandb" if installed("wandb") else "none"


def installed(name: str) -> bool:
    """Whether a package is there; a folder ./wandb of former runs looks like one without origin."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def check_tracker(name: str, mode: str, folder: Path) -> None:
    """Says now, before hours of work, what would be wrong with a tracker after them.

    Raises SkiptuneError for an unknown name or mode, a package that is not installed, a folder that cannot be
    written, online without a key.
    """
    if name not in TRACKERS:
        raise SkiptuneError(f"unknown tracker '{name}': use wandb, trackio or none")
    if mode not in MODES:
        raise SkiptuneError(f"unknown tracker mode '{mode}': use offline or online")
    if name == "none":
        return
    if not installed(name):
        raise SkiptuneError(f"tracker '{name}' is not installed: pip install {name}, or use tracker none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if name == "trackio" and mode == "online":
        raise SkiptuneError("tracker trackio is local here: use mode offline, and `trackio sync` to publish")
    if name == "wandb" and mode == "online":
        from skiptune.runtime.wandb_tracker import check_key

        check_key()


def make_tracker(
    name: str,
    info: RunInfo,
    *,
    mode: str = "offline",
    project: str = "skiptune",
    folder: str | Path = ".",
    init_timeout: float = 15.0,
) -> Tracker:
    """A tracker that never asks and never waits longer than `init_timeout` seconds to start.

    name: 'none', 'wandb' or 'trackio'. mode: 'offline' or 'online'; online without a network warns and goes
    on offline. folder: everything the tracker writes goes under it. Raises SkiptuneError as `check_tracker`.
    """
    folder = Path(folder)
    check_tracker(name, mode, folder)
    if name == "wandb":
        from skiptune.runtime.wandb_tracker import WandbTracker, start

        return WandbTracker(start(info, mode, project, folder, init_timeout))
    if name == "trackio":
        from skiptune.runtime.trackio_tracker import TrackioTracker

        return TrackioTracker(info, project, folder)
    return NoTracker()


def one_line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
