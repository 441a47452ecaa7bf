"""Every official reference format, written by the tools themselves or in their exact layout."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.frechet import ReferenceStatistics
from skiptune.evaluation.sources import read_features, read_reference

DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(40, 6)).astype("f4")
MU, SIGMA = FEATURES.astype("f8").mean(0), np.cov(FEATURES.astype("f8"), rowvar=False)
OTHER = {"mu": np.zeros(3), "sigma": np.eye(3)}


def edm(path: Path) -> None:
    np.savez(path, mu=MU, sigma=SIGMA)


def adm(path: Path) -> None:
    spatial = {"mu_s": np.zeros(4), "sigma_s": np.eye(4)}
    np.savez(path, arr_0=np.zeros((2, 8, 8, 3), "u1"), mu=MU, sigma=SIGMA, **spatial)


def edm2(path: Path) -> None:
    statistics = {"num_images": 40, "fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": OTHER}
    path.write_bytes(pickle.dumps(statistics))


def clean_fid(path: Path) -> None:
    np.savez_compressed(path, mu=MU, sigma=SIGMA)


def torch_fidelity(path: Path) -> None:
    torch.save({"mu": MU, "sigma": SIGMA}, path)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(edm, "npz"), (adm, "npz"), (edm2, "pkl"), (clean_fid, "npz"), (torch_fidelity, "pt")],
)
def test_published_statistics(tmp_path: Path, write: Any, suffix: str) -> None:
    path = tmp_path / f"reference.{suffix}"
    write(path)
    reference = read_reference(path)
    assert reference.features is None and isinstance(reference.gaussian, ReferenceStatistics)
    assert np.array_equal(reference.gaussian.mean.numpy(), MU)
    assert np.array_equal(reference.gaussian.covariance.numpy(), SIGMA)


def test_published_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "ours.npz", features=FEATURES, logits=FEATURES[:, :2], labels=np.arange(40))
    np.savez_compressed(tmp_path / "clean.npz", feats=FEATURES.astype("f8"))
    torch.save(torch.from_numpy(FEATURES), tmp_path / "fidelity.pt")
    for name in ("ours.npz", "clean.npz", "fidelity.pt"):
        kept = read_reference(tmp_path / name).features
        assert kept is not None and np.array_equal(kept.features.numpy(), FEATURES)
    ours = read_features(tmp_path / "ours.npz")
    assert ours.logits.shape == (40, 2) and ours.labels is not None and ours.labels[-1] == 39


@pytest.mark.parametrize("protocol", [2, 4])
def test_large_statistics_of_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    wide = DRAW.normal(size=(300, 256))
    statistics = {"mu": wide.mean(0), "sigma": np.cov(wide, rowvar=False)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"fid": statistics}, protocol=protocol))
    torch.save(statistics, tmp_path / "x.pt", pickle_protocol=protocol)  # torch-fidelity: protocol 2
    for name in ("x.pkl", "x.pt"):
        gaussian = read_reference(tmp_path / name).gaussian
        assert isinstance(gaussian, ReferenceStatistics)
        assert np.array_equal(gaussian.covariance.numpy(), statistics["sigma"])


def test_feature_space_of_edm2_is_chosen(tmp_path: Path) -> None:
    edm2(tmp_path / "img64.pkl")
    other = read_reference(tmp_path / "img64.pkl", "fd_dinov2").gaussian
    assert isinstance(other, ReferenceStatistics) and other.covariance.shape == (3, 3)
    with pytest.raises(SkiptuneError, match="no statistics of 'kid', it has those of fid, fd_dinov2"):
        read_reference(tmp_path / "img64.pkl", "kid")


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"fid": Hostile()}))
    with pytest.raises(SkiptuneError, match="not allowed"):
        read_reference(tmp_path / "x.pkl")
    np.savez(tmp_path / "x.npz", mu=np.array([Hostile()], dtype=object), sigma=np.eye(1))
    with pytest.raises(SkiptuneError, match="no npz file of plain arrays"):
        read_reference(tmp_path / "x.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": MU}, "neither 'features' nor 'mu' and 'sigma', but mu"),
        ({"mu": MU, "sigma": SIGMA[:5]}, r"mu \[6\] and sigma \[5, 6\].*not \[d\] and \[d, d\]"),
        ({"mu": MU[:5], "sigma": SIGMA}, r"mu \[5\] and sigma \[6, 6\]"),
        ({"mu": SIGMA, "sigma": SIGMA}, r"mu \[6, 6\]"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "NaN or infinity"),
        ({"mu": MU, "sigma": SIGMA + np.inf}, "NaN or infinity"),
        ({"mu": MU, "sigma": np.triu(SIGMA)}, "not symmetric"),
        ({"mu": MU.astype("i8"), "sigma": SIGMA}, "mu of .* is no array of numbers"),
        ({"features": FEATURES[0]}, r"features of .* is float32 \[6\], not floats"),
        ({"features": FEATURES, "logits": FEATURES * np.nan}, "logits of .* NaN"),
        ({"features": FEATURES, "labels": FEATURES}, "labels of .* not classes"),
        ({"features": FEATURES, "labels": np.arange(3)}, "differ in length"),
    ],
)
def test_everything_else_is_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(SkiptuneError, match=message) as caught:
        read_reference(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", mu=MU, sigma=DRAW.normal(size=(6, 6)))
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (b"", b"PK", whole[:-40], whole[:60] + bytes(80) + whole[140:]):
        for suffix in ("npz", "pkl", "pt"):
            (tmp_path / f"y.{suffix}").write_bytes(content)
            with pytest.raises(SkiptuneError) as caught:
                read_reference(tmp_path / f"y.{suffix}")
            assert "\n" not in str(caught.value)
    torch.save([1, 2], tmp_path / "z.pt")
    with pytest.raises(SkiptuneError, match="holds a list, no reference"):
        read_reference(tmp_path / "z.pt")
    with pytest.raises(SkiptuneError, match="cannot read"):
        read_features(tmp_path / "nowhere.npz")
