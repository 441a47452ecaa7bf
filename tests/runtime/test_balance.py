"""Tasks in an order, and cut where it helps, so that processes end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from runtime_tasks import Logged

from experiments import bench
from skiptune.checkpoints.models import resolve_model
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.runtime.balance import balanced, ending
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import SeedChunk
from skiptune.runtime.shared_chunks import joined
from skiptune.runtime.store import RunStore
from skiptune.runtime.together import make_plan
from skiptune.runtime.workers import Workers
from skiptune.samplers import make_sampler

ROOT = Path(__file__).resolve().parents[2]
Parts = tuple[float, ...]


def halves(task: Parts) -> list[Parts]:
    """Parts have 1 in common, which each then has of its own."""
    middle = len(task) // 2
    return [task] if len(task) < 2 else [(1, *task[:middle]), (1, *task[middle:])]


def window(high: float, low: float) -> dict[str, object]:
    """Skip-Tuning at these levels alone."""
    return {"name": "skip_tuning", "rho_bottom": 0.7, "rho_top": 1.0, "sigma_low": low, "sigma_high": high}


def end(tasks: list[Parts], processes: int) -> float:
    return ending(tasks, processes, sum)[0]


def test_the_largest_come_first() -> None:
    tasks: list[Parts] = [(1.0,), (3.0,), (2.0,), (3.0,)]
    assert balanced(tasks, 1, sum, halves) == tasks
    assert balanced(tasks, 2, sum, halves) == [(3.0,), (3.0,), (2.0,), (1.0,)]
    assert (end(tasks, 2), end(balanced(tasks, 2, sum, halves), 2)) == (6, 5)
    assert end(balanced(tasks, 3, sum, halves), 3) == 3
    assert balanced([], 2, sum, halves) == []


def test_what_would_end_alone_is_cut() -> None:
    tasks: list[Parts] = [(10.0, 10.0)] * 5
    found = balanced(tasks, 2, sum, halves)
    assert found == [(10.0, 10.0)] * 4 + [(1, 10.0)] * 2
    assert (end(tasks, 2), end(found, 2)) == (60, 51)
    assert balanced(tasks[:4], 2, sum, halves) == tasks[:4]  # nothing would end earlier
    assert balanced([(20.0,)] * 5, 2, sum, halves) == [(20.0,)] * 5  # nor can these be cut
    assert balanced([(6.0, 6.0), (10.0,), (10.0,)], 2, sum, halves) == [(10.0,), (10.0,), (1, 6.0), (1, 6.0)]
    assert end(balanced([(8.0,) * 8], 4, sum, halves), 4) == 25  # 64 when whole; it is cut three times


def test_middle_of_a_plan() -> None:
    sampler = make_sampler(name="euler", steps=8)
    levels = [float(sigma) for sigma in sampler.sigmas if sigma > 0]
    plan = make_plan(sampler, [{"name": "none"}, *(window(sigma, sigma) for sigma in levels)])
    # Calls of their own: 8, then 8 for the first window, which parts at once, 7 for the second, ...
    assert plan.shared == 8 + sum(range(1, 9)) and plan.middle == 3


@pytest.fixture
def settings() -> list[SamplingSettings]:
    """Windows of noise levels, which share much, and one run of another sampler."""
    model = yaml.safe_load((ROOT / "configs/model/edm_glyphs.yaml").read_text())
    untouched = SamplingSettings(
        model=resolve_model(model, ROOT),
        sampler={"name": "unipc", "steps": 8},
        intervention={"name": "none"},
        features=ExtractorRef.resolve({"name": "glyphs_cnn", "kind": "desk"}),
    )
    levels = [float(sigma) for sigma in make_sampler(name="unipc", steps=8).sigmas if sigma > 0]
    windows = [replace(untouched, intervention=window(*levels[i : i + 2])) for i in range(0, 8, 2)]
    return [untouched, *windows, replace(untouched, sampler={"name": "euler", "steps": 1})]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_every_chunk_is_in_one_task(settings: list[SamplingSettings], tmp_path: Path, processes: int) -> None:
    tasks = joined(chunks := five_chunks(settings, tmp_path), processes)
    found = [(chunk.run.id, chunk.number) for task in tasks for chunk in task.chunks]
    assert sorted(found) == sorted((chunk.run.id, chunk.number) for chunk in chunks)
    assert all(len({chunk.number for chunk in task.chunks}) == 1 for task in tasks)
    sizes = [len(task.chunks) for task in tasks]
    if processes == 1:
        assert sizes == [5] * 5 + [1] * 5
    if processes == 2:
        assert sorted(sizes) == [1] * 5 + [2, 3, 5, 5, 5, 5] and sizes[:4] == [5] * 4


@pytest.mark.parametrize("processes", [1, 2])
def test_compiled_networks_are_sampled_alone(
    settings: list[SamplingSettings], tmp_path: Path, processes: int
) -> None:
    compiled = [replace(one, compile=True) for one in settings]
    tasks = joined(five_chunks(compiled, tmp_path), processes)
    assert [len(task.chunks) for task in tasks] == [1] * 5 * len(settings)


def test_other_runs_stay_whole(settings: list[SamplingSettings], tmp_path: Path) -> None:
    other = Logged(tmp_path / "log")
    tasks = joined(five_chunks([other, settings[0]], tmp_path), 2)
    assert [type(task.chunks[0].settings) for task in tasks] == [SamplingSettings] * 5 + [Logged] * 5


def test_one_condition_is_planned_whatever_its_intervention(
    settings: list[SamplingSettings], tmp_path: Path
) -> None:
    """What does not fit the sampler is for the run itself to say, beside the others."""
    blocks = {"name": "block_reweighting", "weights": [[1.0]] * 51, "times": list(range(51))}
    chunks = five_chunks(settings[:1], tmp_path)
    odd = [replace(chunk, settings=replace(chunk.settings, intervention=blocks)) for chunk in chunks]
    assert len(joined(odd, 2)) == 5


def five_chunks(settings: Sequence[Any], folder: Path) -> list[SeedChunk]:
    """Five chunks of each run."""
    store = RunStore(folder)
    return [SeedChunk(store.open(one.resolved()), one, i) for one in settings for i in range(5)]


def test_a_bench_balances_over_all_its_workers(
    settings: list[SamplingSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(bench, "joined", lambda chunks, processes: asked.append(processes) or [])
    for count in (1, 3):
        with Workers(count) as workers:
            bench.Bench(RunStore(tmp_path), workers).compute_runs([(settings[0], range(250))])
    assert asked == [1, 3]
