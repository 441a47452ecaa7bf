"""All metrics by the worker processes of this machine together: the same bits for any number of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

from skiptune.evaluation.blocks import Team
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.metrics import Reference, check_metrics, compute_metrics
from skiptune.runtime.workers import Workers

_PATIENCE = timedelta(days=7)  # the pool itself ends all workers when one dies


def compute_with_workers(
    names: Sequence[str], sample: FeatureSet, real: FeatureSet, workers: Workers
) -> dict[str, float]:
    """`compute_metrics` of the sample against real images, its blocks divided over the workers.

    The features go to a file in the temporary folder, which all workers map into memory, so that there is
    one copy for all of them. Raises SkiptuneError as `compute_metrics`.
    """
    check_metrics(names, {"labels", "logits", "reference_features"})  # unknown names, before any work
    with TemporaryDirectory(prefix="skiptune-metrics-") as name:
        folder = Path(name)
        for side, features in (("sample", sample), ("real", real)):
            tensors = {"features": features.features, "logits": features.logits, "labels": features.labels}
            kept = {key: tensor.cpu().contiguous() for key, tensor in tensors.items() if tensor is not None}
            save_file(kept, folder / f"{side}.safetensors")
        tasks = [MetricShare(tuple(names), folder, rank, workers.count) for rank in range(workers.count)]
        outcomes: list[dict[str, float] | Exception] = workers.run(tasks)
        for outcome in (outcomes[_first_to_fail(folder)], *outcomes):
            if isinstance(outcome, Exception):
                raise outcome
    return cast(dict[str, float], outcomes[0])


@dataclass(frozen=True)
class MetricShare:
    """What worker `rank` of `size` does; all of them must run at once, because they wait for each other."""

    names: tuple[str, ...]
    folder: Path
    rank: int
    size: int

    def __call__(self) -> dict[str, float] | Exception:
        """The metrics, or why there are none: the other workers fail then too, perhaps sooner."""
        try:
            sample, real = (_mapped(self.folder / f"{side}.safetensors") for side in ("sample", "real"))
            with _together(self.folder, Team(self.rank, self.size)) as team:
                return compute_metrics(self.names, sample, Reference.from_features(real), team)
        except Exception as error:
            return error


def _mapped(path: Path) -> FeatureSet:
    """The features as views of the mapped file."""
    with safe_open(path, framework="pt") as file:
        return FeatureSet(**{key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


@contextmanager
def _together(folder: Path, team: Team) -> Iterator[Team]:
    """The team as a process group; one that fails leaves it, so that the others do not wait for ever."""
    if team.size == 1:
        yield team
        return
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group(
        "gloo", init_method=meeting, rank=team.rank, world_size=team.size, timeout=_PATIENCE
    )
    try:
        yield team
    except Exception:
        with suppress(FileExistsError), (folder / "failed").open("x") as file:
            file.write(str(team.rank))  # before the others lose this one, which is an error of theirs
        raise
    finally:
        dist.destroy_process_group()


def _first_to_fail(folder: Path) -> int:
    """Rank of the worker whose failure is the cause of the others'; 0 if none failed."""
    path = folder / "failed"
    return int(path.read_text()) if path.is_file() else 0
