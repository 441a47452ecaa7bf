"""Published references of every kind: EDM's, EDM-2's, ADM's, clean-fid's, torch-fidelity's and our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError
from skiptune.evaluation.frechet import ReferenceStatistics
from skiptune.evaluation.metrics import Reference
from skiptune.evaluation.sources.arrays import (
    FEATURES,
    NPZ,
    array_names,
    is_array,
    read_arrays,
    read_features,
    to_array,
)

# The largest |sigma - sigma^T| as a share of |sigma|: float32 statistics stay within it.
ASYMMETRY = 1e-6


def read_reference(path: Path, space: str = "fid") -> Reference:
    """The reference in a file; nothing in it is executed.

    npz: `mu` and `sigma` (EDM, clean-fid, ADM's evaluator; its `arr_0`, `mu_s`, `sigma_s` are left alone), or
    `features` (ours, clean-fid's `feats`). Pickle (EDM-2): `{"fid": {"mu", "sigma"}, "fd_dinov2": ...}`, of
    which `space` is taken. Torch file (torch-fidelity's cache): `{"mu", "sigma"}`, or features [N, d].

    Raises:
        SkiptuneError: neither is in it; wrong shapes, NaN or infinity, a covariance that is not symmetric.
    """
    if path.suffix == NPZ:
        names = array_names(path)
        if set(FEATURES) & set(names):
            return Reference.from_features(read_features(path))
        content: Any = read_arrays(path, ("mu", "sigma"))
    else:
        content = read_checkpoint(path)
        if is_array(content) or (isinstance(content, Mapping) and set(FEATURES) & set(content)):
            return Reference.from_features(read_features(path))
        if not isinstance(content, Mapping):
            raise SkiptuneError(f"{path} holds a {type(content).__name__}, no reference")
        names = [str(key) for key in content]
        content = _of_space(path, content, space)
    if not {"mu", "sigma"} <= content.keys():
        found = ", ".join(names[:8]) or "nothing"
        raise SkiptuneError(f"{path} holds neither 'features' nor 'mu' and 'sigma', but {found}")
    return Reference(_statistics(path, content["mu"], content["sigma"]))


def _of_space(path: Path, content: Mapping[Any, Any], space: str) -> Mapping[Any, Any]:
    """The mapping itself, or what an EDM-2 file holds for one feature space."""
    spaces = [str(key) for key, value in content.items() if isinstance(value, Mapping) and "mu" in value]
    if not spaces:
        return content
    if space not in spaces:
        raise SkiptuneError(f"{path} has no statistics of {space!r}, it has those of {', '.join(spaces)}")
    return content[space]


def _statistics(path: Path, mu: Any, sigma: Any) -> ReferenceStatistics:
    """Mean [d] and covariance [d, d] in float64, checked."""
    arrays = []
    for name, value in (("mu", mu), ("sigma", sigma)):
        if not is_array(value) or not np.issubdtype(to_array(value).dtype, np.floating):
            raise SkiptuneError(f"{name} of {path} is no array of numbers")
        arrays.append(np.array(to_array(value), dtype=np.float64))
    mean, covariance = arrays
    if mean.ndim != 1 or len(mean) == 0 or covariance.shape != (len(mean), len(mean)):
        raise SkiptuneError(
            f"mu {list(mean.shape)} and sigma {list(covariance.shape)} of {path} are not [d] and [d, d]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise SkiptuneError(f"the statistics of {path} contain NaN or infinity: get the file again")
    if np.abs(covariance - covariance.T).max() > ASYMMETRY * np.abs(covariance).max():
        raise SkiptuneError(f"sigma of {path} is not symmetric, so no covariance: get the file again")
    return ReferenceStatistics(torch.from_numpy(mean), torch.from_numpy(covariance))
