"""What all command-line entry points share: one clear line for a mistake, plain values instead of Hydra's."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository root, for a run without installation

from skiptune.errors import SkiptuneError  # noqa: E402
from skiptune.runtime.tracking import Tracker, default_tracker, make_tracker  # noqa: E402

CONFIGS = str(Path(__file__).resolve().parent.parent / "configs")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as nested dicts, lists and scalars.

    Raises:
        SkiptuneError: a missing value or an interpolation that cannot be resolved.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SkiptuneError(f"configuration: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def command(function: Callable[[dict[str, Any]], None]) -> Callable[[DictConfig], None]:
    """A Hydra task around ``function(plain configuration)``: a user error is one line on stderr and exit code 2."""

    @functools.wraps(function)
    def task(config: DictConfig) -> None:
        try:
            function(plain(config))
        except SkiptuneError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("stopped; what was computed is kept, the same command goes on from there", file=sys.stderr)
            raise SystemExit(130) from None

    return task


def open_tracker(settings: dict[str, Any], run_id: str, config: dict[str, Any], folder: Path) -> Tracker:
    """The tracker of a configuration; ``auto`` is wandb where it is installed."""
    name = default_tracker() if settings["name"] == "auto" else settings["name"]
    return make_tracker(
        name,
        mode=settings["mode"],
        project=settings["project"],
        group=settings["group"],
        run_id=run_id,
        config=config,
        folder=folder,
    )
