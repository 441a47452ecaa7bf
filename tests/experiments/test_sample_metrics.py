"""Several metrics of one pass, their floor, and published statistics as a reference, at tiny size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from experiments.bench import Bench
from experiments.measurement import Result, SeedBlocks
from experiments.references import FLOOR_BLOCKS, RealImages, ReferenceFile, cached_reference
from experiments.samples import SampleMeasurement
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.evaluation import compute_metrics
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.statistics import GaussianStatistics, fit_gaussian
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

ROOT = Path(__file__).resolve().parents[2]
METRICS = ("recall", "fid", "is", "precision", "immd", "accuracy")
REAL = 300


@pytest.fixture(scope="module")
def measurement() -> SampleMeasurement:
    """Two blocks of one chunk, one network evaluation per image."""
    model = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    features = ExtractorRef.resolve({"name": "glyphs_cnn", "kind": "desk"})
    settings = SamplingSettings(
        model=resolve_model(model, ROOT),
        sampler={"name": "euler", "steps": 1},
        intervention={"name": "none"},
        features=features,
    )
    return SampleMeasurement(
        settings, SeedBlocks(0, 2, 250), RealImages("glyphs", REAL, features, "cpu"), METRICS
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(RunStore(tmp_path_factory.mktemp("metrics")), Workers(1))


@pytest.fixture(scope="module")
def measured(bench: Bench, measurement: SampleMeasurement) -> Result:
    (result,) = bench.measure([measurement])
    return result


@pytest.fixture
def statistics(tmp_path: Path, measurement: SampleMeasurement) -> Iterator[ReferenceFile]:
    """The fitted Gaussian of the same real images, in EDM's published form."""
    real = measurement.real
    assert isinstance(real, RealImages)
    fitted = fit_gaussian(real.extract(range(REAL)).features)
    assert isinstance(fitted, GaussianStatistics)
    np.savez(tmp_path / "stats.npz", mu=fitted.mean.numpy(), sigma=fitted.covariance.numpy())
    yield ReferenceFile(tmp_path / "stats.npz", "get it from nowhere")


def test_all_metrics_come_from_one_pass(
    bench: Bench, measured: Result, measurement: SampleMeasurement
) -> None:
    assert list(measured.blocks) == sorted(METRICS) and measured.nfe == 1
    assert all(len(values) == 2 for values in measured.blocks.values())
    # The same from the stored features, block by block, each metric on its own.
    samples, reference = measurement.samples(bench.store), cached_reference(measurement.real, bench.store)
    for i, block in enumerate(samples.features.blocks(2)):
        for name in METRICS:
            alone = compute_metrics([name], block, reference)[name]
            assert measured.blocks[name][i] == pytest.approx(alone, rel=1e-9)
    for name in ("precision", "recall", "accuracy"):
        assert all(0 <= value <= 1 for value in measured.blocks[name])
    assert all(1 <= value <= 26 for value in measured.blocks["is"])
    run = open_run(measurement.settings, bench.store)
    times = {path: path.stat().st_mtime_ns for path in (run.folder / "chunks").iterdir()}
    (fid,) = bench.measure([replace(measurement, metrics=("fid",))])
    assert fid.blocks == {"fid": measured.blocks["fid"]} and fid.run == run.id
    assert {path: path.stat().st_mtime_ns for path in (run.folder / "chunks").iterdir()} == times


def test_floor_of_the_metrics_that_real_images_have(
    bench: Bench, measured: Result, measurement: SampleMeasurement
) -> None:
    floor = bench.floor(measurement)
    assert floor is not None and floor.nfe == 0
    assert set(floor.blocks) == {"fid", "precision", "recall", "immd"}
    assert {len(values) for values in floor.blocks.values()} == {FLOOR_BLOCKS}
    # One Euler step is far from the data: real images are the better ones by every metric.
    for name in ("fid", "immd"):
        assert floor.value(name).value < min(measured.blocks[name])
    for name in ("precision", "recall"):
        assert floor.value(name).value > max(measured.blocks[name])
    assert bench.floor(replace(measurement, metrics=("is", "accuracy"))) is None


def test_published_statistics_give_the_fid_of_their_images(
    bench: Bench, measured: Result, measurement: SampleMeasurement, statistics: ReferenceFile
) -> None:
    by_file = replace(measurement, real=statistics, metrics=("fid", "is", "accuracy"))
    (result,) = bench.measure([by_file])
    for name in by_file.metrics:
        assert result.blocks[name] == pytest.approx(measured.blocks[name], rel=1e-6)
    assert result.record != measured.record and result.run == measured.run
    assert bench.floor(by_file) is None  # no images to compare with images


@pytest.mark.parametrize("metric", ["kid", "precision", "recall", "immd", "cmmd", "mmd"])
def test_statistics_are_not_enough_for_every_metric(
    measurement: SampleMeasurement, statistics: ReferenceFile, metric: str
) -> None:
    """Refused by the measurement itself, before anything can be sampled."""
    wanted = f"^{metric} needs the features of the reference images"
    with pytest.raises(SkiptuneError, match=wanted) as caught:
        replace(measurement, real=statistics, metrics=("fid", metric))
    assert "\n" not in str(caught.value)


def test_features_in_a_file_are_enough_for_all(
    bench: Bench, measured: Result, measurement: SampleMeasurement, tmp_path: Path
) -> None:
    real = measurement.real
    assert isinstance(real, RealImages)
    np.savez(tmp_path / "features.npz", features=real.extract(range(REAL)).features.numpy())
    (result,) = bench.measure([replace(measurement, real=ReferenceFile(tmp_path / "features.npz", ""))])
    for name in METRICS:
        assert result.blocks[name] == pytest.approx(measured.blocks[name], rel=1e-9)


def test_a_reference_file_is_named_by_its_content(tmp_path: Path, statistics: ReferenceFile) -> None:
    (tmp_path / "elsewhere").mkdir()
    copied = tmp_path / "elsewhere" / statistics.path.name
    copied.write_bytes(statistics.path.read_bytes())
    assert ReferenceFile(copied, "other words").identity == statistics.identity
    copied.write_bytes(b"other content")
    assert ReferenceFile(copied, "").identity != statistics.identity
    with pytest.raises(SkiptuneError, match=r"reference file .*none.npz is missing; get it from nowhere"):
        ReferenceFile(tmp_path / "none.npz", "get it from nowhere")


def test_another_extractor_sees_other_features(measurement: SampleMeasurement) -> None:
    other = ExtractorRef.resolve({"name": "glyphs_vit", "kind": "desk"})
    assert other.identity != measurement.settings.features.identity
    extractor = cached_extractor(other, "cpu")
    assert extractor.digest == other.sha256
    with pytest.raises(SkiptuneError, match="the weights of extractor glyphs_vit changed"):
        replace(other, sha256="0" * 64).load()
