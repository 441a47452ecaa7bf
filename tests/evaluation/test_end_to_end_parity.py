"""The same pictures through torch-fidelity and our evaluation, with one random-weight Inception file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from sample_images import pictures, relative
from torch import Tensor
from torch_fidelity import calculate_metrics
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from skiptune.evaluation.evaluation import Evaluation
from skiptune.evaluation.sources import read_features
from skiptune.runtime.store import RunStore

GENERATED, REAL = 120, 100


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    for name, count, seed in (("generated", GENERATED, 1), ("real", REAL, 2)):
        (folder / name).mkdir()
        for i, image in enumerate(pictures(count, 32, 32, seed)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name / f"{i:04}.png")
    return folder


@pytest.fixture(scope="module")
def theirs(folders: Path, inception_file: Path) -> dict[str, float]:
    """torch-fidelity's numbers; its features and statistics stay in its cache."""
    metrics: dict[str, float] = calculate_metrics(
        input1=str(folders / "generated"),
        input2=str(folders / "real"),
        input1_cache_name="generated",
        input2_cache_name="real",
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_file),
        kid_subset_size=REAL,
        cache_root=str(folders / "cache"),
        batch_size=16,
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        save_cpu_ram=True,
        verbose=False,
    )
    return metrics


def cached(folders: Path, name: str) -> Path:
    (path,) = (folders / "cache").glob(f"{name}.pt")
    return path


def test_evaluation_gives_the_features_and_metrics_of_torch_fidelity(
    folders: Path, theirs: dict[str, float], inception_file: Path
) -> None:
    found = Evaluation(
        generated=folders / "generated",
        reference=folders / "real",
        extractor_weights=inception_file,
        metrics=["fid", "is", "kid", "precision_recall"],
        outputs=folders / "outputs",
        device="cpu",
        workers=1,
    ).result()
    assert found["images"] == {"generated": GENERATED, "reference": REAL}
    names = ("generated", "real")
    files = [cached(folders, f"{name}-inception-v3-compat-features-2048") for name in names]
    expected = [read_features(file).features for file in files]
    by_count = {len(x): x for x in stored_features(folders / "outputs")}
    features = [by_count[len(x)] for x in expected]
    for x, y in zip(features, expected, strict=True):
        assert y.std(0).mean() > 1e-3  # the random network tells the images apart
        assert relative(x, y) < 1e-5

    # torch-fidelity takes roots of 2,048 eigenvalues, of which all but 99 are rounding errors of size
    # eps |C_a| |C_b|; in coordinates of the images' span its formula has no such noise.
    exact, noise = fid_in_the_span(*expected)
    assert theirs["frechet_inception_distance"] == pytest.approx(exact, abs=noise)
    # The root of FID is a metric, so it moves by no more than the images' features do.
    moved = sum(displacement(x, y) for x, y in zip(features, expected, strict=True))
    ours = found["metrics"]
    assert moved < 0.01 and math.sqrt(ours["fid"]) == pytest.approx(math.sqrt(exact), abs=moved)
    # The others are as exact as float32 features.
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=2e-6)
    for name in ("precision", "recall"):  # theirs are means in float32
        assert ours[name] == pytest.approx(theirs[name], abs=1e-7)

    # Its cache read by ours: equal features, so equal numbers.
    cache = Evaluation(features=files[0], reference_features=files[1], metrics=["fid", "kid"])
    ready = cache.result()["metrics"]
    assert ready["fid"] == pytest.approx(exact, rel=1e-6)
    statistics = cached(folders, "real-inception-v3-compat-stat-fid-2048")
    from_statistics = Evaluation(
        features=files[0], reference=statistics, outputs=folders / "outputs"
    ).result()
    assert from_statistics["metrics"]["fid"] == pytest.approx(exact, rel=1e-6)


def fid_in_the_span(a: Tensor, b: Tensor) -> tuple[float, float]:
    """torch-fidelity's FID in coordinates of the span of all images, and its rounding error outside it."""
    x, y = a.double(), b.double()
    centre = torch.cat([x, y]).mean(0)
    basis = torch.linalg.qr((torch.cat([x, y]) - centre).T)[0]
    statistics = [fid_features_to_statistics((z - centre) @ basis) for z in (x, y)]
    fid = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    scale = math.prod(float(torch.linalg.matrix_norm(torch.cov(z.T), 2)) for z in (x @ basis, y @ basis))
    return fid, 2 * a.shape[1] * math.sqrt(torch.finfo(torch.float64).eps * scale)


def displacement(a: Tensor, b: Tensor) -> float:
    """Root mean square distance of paired rows, with the n - 1 of a covariance."""
    return math.sqrt(float((a.double() - b.double()).square().sum()) / (len(a) - 1))


def stored_features(outputs: Path) -> list[Tensor]:
    store = RunStore(outputs)
    return [store.load(run).read_chunk(0)["features"] for run in store.ids()]
