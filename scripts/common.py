"""What all command-line entry points share: one clear line for a mistake, plain values instead of Hydra's."""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository root, for a run without installation

from experiments.measurement import Bench  # noqa: E402
from skiptune.errors import SkiptuneError  # noqa: E402
from skiptune.runtime.distributed import world  # noqa: E402
from skiptune.runtime.provenance import device  # noqa: E402
from skiptune.runtime.store import RunStore  # noqa: E402
from skiptune.runtime.tracking import Tracker, default_tracker, make_tracker  # noqa: E402
from skiptune.runtime.workers import Workers, default_workers  # noqa: E402

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


@contextlib.contextmanager
def make_bench(config: dict[str, Any]) -> Iterator[Bench]:
    """Run store, device and workers of a configuration; the pool is kept for the other jobs of a sweep."""
    chosen = device(config["device"])
    count = config["workers"]
    if count == "auto":
        # Under torchrun every process is one worker; a GPU is driven by one process.
        count = 1 if world().size > 1 or chosen.type == "cuda" else default_workers()
    if not isinstance(count, int):
        raise SkiptuneError(f"workers is {count!r}; give a number or auto")
    yield Bench(RunStore(config["outputs"]), pool(count), chosen.type)


@functools.cache
def pool(count: int) -> Workers:
    """One pool of workers per process, so that a sweep starts them once; they end with the process."""
    workers = Workers(count)
    atexit.register(workers.__exit__, None, None, None)
    return workers
