"""A run of Weights & Biases, online or on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import wandb

from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import STEP, Attempts, Picture, RunInfo, log, one_line

_FINISH_SECONDS = 60.0


class WandbTracker:
    """A wandb run whose failures are reported once, as a warning, and otherwise ignored."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._try = Attempts()
        self._step = 0

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Values at `step` images."""
        self._step = step
        self._try(lambda: self._run.log({**values, STEP: step}))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run."""
        self._try(lambda: self._run.summary.update(dict(values)))

    def image(self, name: str, picture: Picture) -> None:
        """A picture, at the last logged step."""
        shown = str(picture) if isinstance(picture, Path) else picture
        self._try(lambda: self._run.log({name: wandb.Image(shown), STEP: self._step}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, at the last logged step; a column may hold numbers and texts."""

        def put() -> None:
            data = [list(row) for row in rows]
            made = wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
            self._run.log({name: made, STEP: self._step})

        self._try(put)

    def finish(self) -> bool:
        """Close the run; an upload that the network holds up is given up after a minute and stays on disk."""
        self._try(self._run.finish)
        return not self._try.failed


def check_key() -> None:
    """Raises SkiptuneError without an API key; never asks for one."""
    wandb.setup(settings=wandb.Settings(silent=True))
    try:
        has_key = bool(wandb.login(prompt=False, verify=False))
    except Exception as error:
        raise SkiptuneError(f"wandb's API key is unusable ({one_line(error)}): run `wandb login`") from error
    if not has_key:
        raise SkiptuneError("wandb has no API key, online needs one: run `wandb login`, or use mode offline")


def start(info: RunInfo, mode: str, project: str, folder: Path, timeout: float) -> Any:
    """A started run; offline where the site cannot be reached within `timeout` seconds.

    A run that goes on after a restart keeps its id: online it is resumed; offline it is a further folder of
    the same id, which `wandb sync` uploads in order, and whose curves fit because STEP is their axis.

    Raises SkiptuneError if wandb cannot start at all.
    """
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[variable] = str(folder.absolute() / "wandb")
    wandb.setup(settings=wandb.Settings(silent=True))
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=timeout,
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
    )

    def begin(mode: Literal["offline", "online"]) -> Any:
        run = wandb.init(
            project=project,
            id=info.id or None,
            name=info.name or None,
            group=info.group or None,
            job_type=info.job or None,
            tags=list(info.tags) or None,
            config=dict(info.config),
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
            return begin("online")
        except Exception as error:
            log.warning("wandb is not reachable, tracking offline in %s: %s", folder, one_line(error))
            wandb.teardown()  # else the run's id counts as in use
    try:
        return begin("offline")
    except Exception as error:
        raise SkiptuneError(f"wandb cannot start ({one_line(error)}): use tracker none") from error
