"""Ready features: our npz files, clean-fid's, and the tensors of torch-fidelity's cache."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError
from skiptune.evaluation.features import FeatureSet

Array = np.ndarray[Any, Any]
NPZ = ".npz"
FEATURES = ("features", "feats")  # the second is clean-fid's


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays of an npz file by name, or those of them in `names`.

    Raises:
        SkiptuneError: no npz file; pickled objects are refused.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [name for name in file.files if names is None or name in names]
            return {name: file[name] for name in wanted}
    except OSError as error:
        raise SkiptuneError(f"cannot read {path}: {error.strerror or error}") from error
    except (
        *(ValueError, EOFError, AttributeError, KeyError, TypeError, RuntimeError, MemoryError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        reason = " ".join(str(error).split())[:160]
        raise SkiptuneError(f"{path} is no npz file of plain arrays ({reason})") from error


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an npz file; none for a file of another suffix. Raises SkiptuneError."""
    if path.suffix != NPZ:
        return []
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except OSError as error:
        raise SkiptuneError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise SkiptuneError(f"{path} is no npz file of plain arrays ({error})") from error


def read_features(path: Path) -> FeatureSet:
    """Features [N, d] of a file, with logits [N, K] and labels [N] where it has them.

    An npz file with `features` (clean-fid: `feats`), `logits` and `labels`; or a torch file (torch-fidelity's
    cache) with one tensor [N, d] or a mapping of those names. Raises SkiptuneError: no features, another
    shape, NaN or infinity.
    """
    wanted = (*FEATURES, "logits", "labels")
    if path.suffix == NPZ:
        names, content = array_names(path), read_arrays(path, wanted)
    else:
        content = _torch_arrays(path)
        names = list(content)
    name = next((name for name in FEATURES if name in content), None)
    if name is None:
        raise SkiptuneError(f"{path} has no array 'features', it has {', '.join(names) or 'nothing'}")
    features = _table(path, name, content[name])
    logits = _table(path, "logits", content["logits"]) if "logits" in content else features[:, :0]
    return FeatureSet(features, logits, _labels(path, content["labels"]) if "labels" in content else None)


def _torch_arrays(path: Path) -> dict[str, Array]:
    content = read_checkpoint(path)
    if isinstance(content, Tensor):
        content = {"features": content}
    if not isinstance(content, Mapping):
        raise SkiptuneError(f"{path} holds a {type(content).__name__}, not features [N, d]")
    return {str(key): to_array(value) for key, value in content.items() if is_array(value)}


def is_array(value: object) -> bool:
    """Whether the value is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def to_array(value: Any) -> Array:
    """Tensor or array as an array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _table(path: Path, name: str, table: Array) -> Tensor:
    if table.ndim != 2 or 0 in table.shape or not np.issubdtype(table.dtype, np.floating):
        kind = f"{table.dtype} {list(table.shape)}"
        raise SkiptuneError(f"{name} of {path} is {kind}, not floats [N, d] of 1 image or more")
    if not np.isfinite(table).all():
        raise SkiptuneError(f"{name} of {path} contains NaN or infinity: make them again")
    # Half precision and foreign byte orders have no arithmetic in torch.
    kept = table.dtype if table.dtype in (np.float32, np.float64) else np.float32
    return torch.from_numpy(np.array(table, dtype=kept, order="C"))


def _labels(path: Path, labels: Array) -> Tensor:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise SkiptuneError(f"labels of {path} are {labels.dtype} {list(labels.shape)}, not classes [N]")
    return torch.from_numpy(labels.astype(np.int64))
