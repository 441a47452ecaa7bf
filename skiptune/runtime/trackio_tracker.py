"""A run of Trackio: a local database and a local web dashboard (`trackio show`), no account, no network."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import STEP, Attempts, Picture, RunInfo, one_line


class TrackioTracker:
    """A Trackio run whose failures are reported once, as a warning, and otherwise ignored.

    Trackio has neither ids, tags, kinds of runs nor a summary: the id ends the run's name, tags are part of
    the config, final values are logged at the last step. A run that goes on after a restart is resumed by its
    name.
    """

    def __init__(self, info: RunInfo, project: str, folder: Path) -> None:
        """Raises SkiptuneError if Trackio cannot start."""
        os.environ["TRACKIO_DIR"] = str(folder.absolute() / "trackio")  # read when it is imported
        self._try, self._step = Attempts(), 0
        self._trackio: Any = importlib.import_module("trackio")
        tags = {"tags": ", ".join(info.tags)} if info.tags else {}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._run = self._trackio.init(
                    project=project,
                    name=" ".join(part for part in (info.name, info.id) if part) or None,
                    group=info.group or None,
                    config={**info.config, **tags},
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        except Exception as error:
            raise SkiptuneError(f"trackio cannot start ({one_line(error)}): use tracker none") from error

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Values at `step` images."""
        self._step = step
        self._try(lambda: self._run.log({**values, STEP: step}, step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run."""
        self._try(lambda: self._run.log(dict(values), step=self._step))

    def image(self, name: str, picture: Picture) -> None:
        """A picture, at the last logged step."""
        self._try(lambda: self._run.log({name: self._trackio.Image(picture)}, step=self._step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, at the last logged step."""
        data = [list(row) for row in rows]
        table = self._trackio.Table
        self._try(lambda: self._run.log({name: table(columns=list(columns), data=data)}, step=self._step))

    def finish(self) -> bool:
        """Close the run."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._try(self._trackio.finish)
        return not self._try.failed
