"""Measurements: the same for any number of workers, kept, extended, and never made from a damaged chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import samples
from experiments.bench import Bench, NotComputed
from experiments.measurement import SeedBlocks
from experiments.references import FLOOR_BLOCKS, RealImages
from experiments.samples import SampleMeasurement
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import Run, RunStore
from skiptune.runtime.workers import Workers

ROOT = Path(__file__).resolve().parents[2]
TWO = SeedBlocks(0, 2, 250)
GLYPHS_CNN = ExtractorRef.resolve({"name": "glyphs_cnn", "kind": "desk"})


@pytest.fixture(scope="module")
def measurement() -> SampleMeasurement:
    """Two blocks of one chunk, one network evaluation per image."""
    model = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    settings = SamplingSettings(
        model=resolve_model(model, ROOT),
        sampler={"name": "euler", "steps": 1},
        intervention={"name": "skip_tuning", "rho_bottom": 0.8},
        features=GLYPHS_CNN,
    )
    return SampleMeasurement(settings, TWO, RealImages("glyphs", 300, GLYPHS_CNN, "cpu"), ("fid", "accuracy"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, measurement: SampleMeasurement) -> Bench:
    """One worker, the measurement made."""
    bench = Bench(RunStore(tmp_path_factory.mktemp("one")), Workers(1))
    bench.measure([measurement])
    return bench


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A bench of its own with copies of the chunks and no record."""
    for path in bench.store.root.rglob("*.safetensors"):
        target = tmp_path / path.relative_to(bench.store.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        settings = path.parent.parent / "settings.json"
        (target.parent.parent / "settings.json").write_text(settings.read_text())
    yield Bench(RunStore(tmp_path), Workers(1))


def sampling_run(bench: Bench, measurement: SampleMeasurement) -> Run:
    return open_run(measurement.settings, bench.store)


def chunk_times(run: Run) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (run.folder / "chunks").iterdir()}


def without_circumstances(record: dict[str, Any] | None) -> dict[str, Any]:
    assert record is not None
    return {key: record[key] for key in record if key not in ("provenance", "images_per_second", "seconds")}


def test_two_workers_give_the_same_bits(bench: Bench, measurement: SampleMeasurement, tmp_path: Path) -> None:
    with Workers(2) as workers:
        together = Bench(RunStore(tmp_path), workers)
        (result,) = together.measure([measurement])
    one, two = sampling_run(bench, measurement), sampling_run(together, measurement)
    for number in range(2):
        assert one.chunk_path(number).read_bytes() == two.chunk_path(number).read_bytes()
    records = [b.store.open(measurement.identity).record() for b in (bench, together)]
    assert without_circumstances(records[0]) == without_circumstances(records[1])
    assert (result.nfe, result.run, result.bounds) == (1, one.id, ((0, 249), (250, 499)))
    fid = result.value("fid")
    assert fid.n == 2 and fid.low is not None and fid.high is not None and fid.low < fid.value < fid.high
    assert 0 <= result.value("accuracy").value <= 1


def test_second_call_computes_nothing(bench: Bench, measurement: SampleMeasurement) -> None:
    files = {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")}
    first, second = bench.measure([measurement]), bench.measure([measurement, measurement])
    assert second == [*first, *first]
    assert {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")} == files


def test_a_bench_that_only_looks_waits_for_no_other_process(
    bench: Bench, measurement: SampleMeasurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that see more of a store, or less, would wait for each other at different places."""
    there = bench.measure([measurement])
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    looking = Bench(bench.store, Workers(1), computes=False)
    assert looking.measure([measurement]) == there and looking.floor(measurement) is None
    with pytest.raises(NotComputed):
        Bench(RunStore(tmp_path), Workers(1), computes=False).measure([measurement])


def test_other_numerics_of_the_metrics_keep_the_images(
    copy: Bench, measurement: SampleMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = copy.measure([measurement])
    times = chunk_times(sampling_run(copy, measurement))
    monkeypatch.setattr(samples, "METRIC_NUMERICS", samples.METRIC_NUMERICS + 1)
    (after,) = copy.measure([measurement])
    assert after.record != before.record and after.run == before.run
    assert chunk_times(sampling_run(copy, measurement)) == times


def test_more_seeds_go_on_where_fewer_stopped(copy: Bench, measurement: SampleMeasurement) -> None:
    run = sampling_run(copy, measurement)
    before = chunk_times(run)
    one, three = (
        replace(measurement, blocks=SeedBlocks(0, 1, 250)),
        replace(measurement, blocks=SeedBlocks(0, 3, 250)),
    )
    first, more = copy.measure([one, three])
    after = chunk_times(run)
    assert set(after) - set(before) == {"00002.safetensors"}
    assert before.items() <= after.items()
    assert more.blocks["fid"][:1] == first.blocks["fid"] and len(more.blocks["fid"]) == 3
    alone = first.value("fid")
    assert (alone.low, alone.high, alone.n) == (None, None, 1)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_chunk_is_named_and_made_anew(
    copy: Bench, measurement: SampleMeasurement, damage: str
) -> None:
    run = sampling_run(copy, measurement)
    path, other = run.chunk_path(1), run.chunk_path(0)
    whole, kept = path.read_bytes(), other.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(flipped if damage == "flipped" else whole[:-100])
    with pytest.raises(
        SkiptuneError, match="is damaged .*delete it and run the same command again"
    ) as caught:
        copy.measure([measurement])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert other.read_bytes() == kept
    path.unlink()
    copy.measure([measurement])
    assert path.read_bytes() == whole


def test_floor_is_measured_once(copy: Bench, measurement: SampleMeasurement) -> None:
    floor = copy.floor(measurement)
    assert floor is not None and set(floor.blocks) == {"fid"}  # accuracy says nothing of real images
    assert floor.nfe == 0 and len(floor.blocks["fid"]) == FLOOR_BLOCKS
    assert floor.bounds[0] == (300, 549)  # real images behind the reference
    (made,) = copy.measure([measurement])
    assert floor.value("fid").high < min(made.blocks["fid"])  # real images are closer to real ones
    written = copy.store.root / "runs" / floor.record / "record.json"
    before = written.stat().st_mtime_ns
    # It belongs to data, features and seeds: not to the sampler.
    other = replace(measurement, settings=replace(measurement.settings, sampler={"name": "heun", "steps": 5}))
    assert copy.floor(other) == floor
    assert written.stat().st_mtime_ns == before


def test_unwritable_store_is_refused_before_any_work(measurement: SampleMeasurement, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench = Bench(RunStore(tmp_path / "file" / "store"), Workers(1))
    with pytest.raises(SkiptuneError, match="cannot write"):
        bench.measure([measurement])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ("beauty",)}, "unknown metric 'beauty'"),
        ({"metrics": ()}, "no metrics given"),
        ({"metrics": ("accuracy", "cmmd", "beauty")}, "unknown metric 'beauty'"),
    ],
)
def test_impossible_measurements(
    measurement: SampleMeasurement, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkiptuneError, match=message):
        replace(measurement, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 1}, "reference_images is 1"),
        ({"images": 1798, "dataset": "digits"}, "reference_images is 1798, but digits has only 1797"),
        ({"dataset": "runes"}, "runes"),
    ],
)
def test_impossible_real_images(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        replace(RealImages("glyphs", 300, GLYPHS_CNN, "cpu"), **change)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 0, 250), "0 seed blocks"),
        ((0, 2, 300), "multiples of 250"),
        ((100, 2, 250), "multiples of 250"),
        ((0, 2, 0), "multiples of 250"),
        ((0, 2, 250.0), "size of the seed blocks is 250.0"),
    ],
)
def test_impossible_blocks(numbers: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        SeedBlocks(*numbers)
