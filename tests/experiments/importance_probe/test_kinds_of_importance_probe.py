"""Scores of prompts, rankings, errors with known noise and pruning, on a tiny network with a dead block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.bench import Bench, NotComputed
from experiments.importance_probe.cases import CaseMeans
from experiments.importance_probe.costs import of_pruning
from experiments.importance_probe.importance import RankMeans
from experiments.importance_probe.probes import probe_settings
from experiments.importance_probe.prompt_means import PromptMeans, joined
from experiments.importance_probe.prompts import prompt_list
from experiments.importance_probe.pruning_run import PruningRun
from experiments.importance_probe.ranking_run import RankingRun
from experiments.importance_probe.variances import VarianceRun
from experiments.registry import measurement
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.data.images import to_uint8
from skiptune.errors import SkiptuneError
from skiptune.importance import (
    RELEASED,
    TEXT,
    Importance,
    ProbeSettings,
    Teacher,
    ThresholdRule,
    ablation_errors,
    importance_weights,
)
from skiptune.interventions.blocks import BlockReweighting
from skiptune.runtime.networks import cached_model
from skiptune.runtime.seed_chunks import BuiltRun, open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers
from skiptune.samplers import initial_noise, make_sampler
from skiptune.samplers.sample import sample

Row = Callable[..., RowConfig]
SCORES = {"kind": "prompt_scores"}
RANKED = {**SCORES, "ranking": "ablation"}
RANGE = {"name": "importance", "low": 0.9, "high": 1.3}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One process and one run store for all: what tests share is computed once."""
    return Bench(RunStore(tmp_path_factory.mktemp("store")), Workers(1))


@pytest.fixture
def values(small: Scale, bench: Bench, row: Row) -> Callable[..., dict[str, list[float]]]:
    """`values(measure, intervention, *metrics)`."""

    def values(measure: dict[str, Any], intervention: dict[str, Any] | None, *metrics: str) -> Any:
        own = row(measure, intervention)
        made = measurement(small, own, own.intervention, small.report, metrics)
        (result,) = bench.measure([made])
        return result.blocks

    return values


def test_scores_under_importance_are_those_of_images_weighted_by_hand(
    small: Scale, bench: Bench, row: Row, values: Callable[..., Any]
) -> None:
    own = row(RANKED, RANGE)
    made = measurement(small, own, RANGE, small.report, ("score", "distance", "anime_test"))
    assert isinstance(made, PromptMeans)
    (result,) = bench.measure([made])
    assert [len(result.blocks[name]) for name in ("score", "distance", "anime_test")] == [8, 8, 2]
    stored = joined(made.settings, made.blocks, bench.store)
    prompts, model = prompt_list(small), cached_model(made.settings.model, "cpu")  # type: ignore[union-attr]
    sampler = make_sampler(**own.sampler)
    for number in (0, 1, 6, 7):
        denoiser = model.prompted([prompts.text(number)])
        fitted = sampler.fitted(denoiser)
        probed, _ = initial_noise(
            [prompts.prompt_seed(number // 2, 0)], (3, 16, 16)
        )  # both: of the split train
        scores = Importance.of_errors(ablation_errors(Teacher(denoiser, sampler, probed))).scores
        assert int(scores.argmin(dim=1)[0]) == 0  # the dead block
        noise, _ = initial_noise([prompts.noise_seed(number)], (3, 16, 16))
        weights = importance_weights(scores, 0.9, 1.3)
        with BlockReweighting(weights, tuple(fitted.sigmas[:-1].tolist())).attached_to(denoiser):
            image = to_uint8(sample(sampler, denoiser, noise))
        difference = (image[0].int() - stored["images"][number].int()).abs().max()
        assert int(difference) <= 1  # another batch rounds otherwise
    assert min(result.blocks["distance"]) > 0


def test_neutral_weights_are_the_untouched_run(values: Callable[..., Any], bench: Bench) -> None:
    plain = values(SCORES, None, "score")
    runs = bench.store.ids()
    assert values(SCORES, {"name": "block_weight", "block": 2, "weight": 1}, "score") == plain
    assert bench.store.ids() == runs  # nothing was computed again
    other = values(SCORES, {"name": "block_weight", "block": 2, "weight": 1.5}, "score", "distance")
    assert other["score"] != plain["score"]
    ranked = values(RANKED, {"name": "importance", "low": 1.0, "high": 1.0}, "score", "distance")
    assert ranked["score"] == plain["score"] and set(ranked["distance"]) == {0}


def test_rows_share_what_finds_their_weights(values: Callable[..., Any], bench: Bench) -> None:
    values(RANKED, RANGE, "score")
    before = set(bench.store.ids())
    values(RANKED, {**RANGE, "scores": "mirrored"}, "score")
    values(RANKED, {"name": "prune_least", "skip": 1}, "score")
    after = [bench.store.load(id).settings["kind"] for id in bench.store.ids() if id not in before]
    assert sorted(after) == ["prompt images", "prompt images", "prompt means", "prompt means"]


def test_a_ranking_goes_with_weights_by_importance(small: Scale, row: Row) -> None:
    for measure, acting, said in (
        (
            SCORES,
            RANGE,
            "ranking is None, with the intervention importance it must be one of probe, abl",
        ),
        (RANKED, {"name": "none"}, "with the intervention none it must be none"),
        ({**SCORES, "ranking": "probe"}, {"name": "found_weights"}, "it must be one of eq4, fitted"),
    ):
        with pytest.raises(SkiptuneError, match=said):
            measurement(small, row(measure, acting), acting, small.report, ("score",))


def test_the_dead_block_is_least_important_to_both_of_two_rankings(values: Callable[..., Any]) -> None:
    measure = {"kind": "importance", "ranking": "ablation", "step": 1}
    found = values(measure, None, "position_0", "importance_0", "tau_repeat", "decoder_0_1", "middle_0")
    assert set(found["position_0"]) == {1} and set(found["importance_0"]) == {0.2}
    assert set(found["decoder_0_1"]) == {1}
    with pytest.raises(SkiptuneError, match="no block of 'position_5': the network has 0 to 4"):
        values(measure, None, "position_5")


def test_independent_probes_of_one_prompt(values: Callable[..., Any]) -> None:
    measure = {"kind": "importance", "ranking": "probe", "step": 0, "probes": 2}
    found = values({**measure, "prompt": {"desk": "a red letter K"}}, None, "position_0", "position_4")
    assert [len(series) for series in found.values()] == [2, 2]
    assert all(1 <= place <= 5 for series in found.values() for place in series)
    own = values({**measure, "prompt": {"desk": "a red letter K"}}, None, "importance_0", "importance_4")
    assert any(first != second for first, second in own.values())  # one prompt and noise, other draws


def test_prompts_have_draws_of_their_own_where_they_have_latents(small: Scale, row: Row) -> None:
    measure, metrics = {"kind": "importance", "ranking": "probe", "step": 0}, ("position_0",)
    own = measurement(small, row(measure), {"name": "none"}, small.report, metrics)
    shared = replace(small, prompts={**small.prompts, "randomness": "shared"})
    released = measurement(shared, row(measure), {"name": "none"}, small.report, metrics)
    assert isinstance(own, RankMeans) and isinstance(released, RankMeans)
    assert isinstance(own.settings, RankingRun) and isinstance(released.settings, RankingRun)
    assert own.settings.own_draws and not released.settings.own_draws


def test_constants_of_the_probe_are_configured(small: Scale, row: Row) -> None:
    measure, none = {"kind": "importance", "ranking": "probe", "step": 0}, {"name": "none"}
    few = replace(small, probes={**small.probes, "few": {"runs": 3, "thresholds": {"gap": 0.02}}})
    made = measurement(few, row({**measure, "probe": "few"}), none, few.report, ("position_0",))
    assert isinstance(made, RankMeans) and isinstance(made.settings, RankingRun)
    assert made.settings.probe == ProbeSettings(runs=3, thresholds=ThresholdRule(gap=0.02))
    for probe, said in (
        ({"runs": 0}, "runs of the Importance Probe is 0"),
        ({"pace": 1}, "probes.few: .*pace"),
    ):
        wrong = replace(few, probes={"few": probe})
        with pytest.raises(SkiptuneError, match=said):
            measurement(wrong, row({**measure, "probe": "few"}), none, few.report, ("position_0",))
    with pytest.raises(SkiptuneError, match="ranking ablation has no probe"):
        other = {**measure, "ranking": "ablation", "probe": "few"}
        measurement(few, row(other), none, few.report, ("position_0",))


@pytest.mark.parametrize(("name", "known"), [("released", RELEASED), ("text", TEXT)])
def test_configured_probes_are_those_of_the_library(small: Scale, name: str, known: ProbeSettings) -> None:
    assert probe_settings(small, name) == known


def test_variances_and_the_weights_that_they_imply(small: Scale, bench: Bench, row: Row) -> None:
    own = row({"kind": "variance_terms", "step": 1, "block": 3, "cases": 5})
    metrics = ("signal", "noise", "intrinsic", "eq4", "fitted")
    with pytest.raises(SkiptuneError, match="cases is 5: 8 prompts fill fewer"):
        measurement(small, own, own.intervention, small.report, metrics)
    more = replace(small, prompts={**small.prompts, "count": 10})
    made = measurement(more, own, own.intervention, more.report, metrics)
    assert isinstance(made, CaseMeans) and isinstance(made.settings, VarianceRun)
    (result,) = bench.measure([replace(made, settings=replace(made.settings, images=3, noises=2))])
    found = result.blocks
    assert [len(series) for series in found.values()] == [5] * 5 and len(set(found["noise"])) == 5
    for f, g, n, weight in zip(*(found[k] for k in ("signal", "noise", "intrinsic", "eq4")), strict=True):
        assert weight == pytest.approx(g / (f + g + n)) and 0 < weight < 1


def test_error_of_the_noise_prediction(values: Callable[..., Any]) -> None:
    measure = {"kind": "noise_error"}
    plain = values(measure, None, "mse_0", "mse_1", "mse")
    assert plain["mse"] == pytest.approx(
        [(a + b) / 2 for a, b in zip(plain["mse_0"], plain["mse_1"], strict=True)]
    )
    found = {"name": "found_weights"}
    fitted = values({**measure, "ranking": "fitted"}, found, "mse_1")
    implied = values({**measure, "ranking": "eq4"}, found, "mse_1")
    assert implied["mse_1"] != fitted["mse_1"] and implied["mse_1"] != plain["mse_1"]
    assert sum(fitted["mse_1"]) < sum(plain["mse_1"])  # what it was fitted to, on other images and noise
    dead = values(measure, {"name": "block_weight", "block": 1, "weight": 0.0}, "mse_1")
    assert dead["mse_1"] != plain["mse_1"]


PRUNED: dict[str, Any] = {
    "kind": "pruning",
    "prompt": {"desk": "a red letter K"},
    "images": {"desk": {"first_seed": 142, "blocks": 2, "size": 50}},
    "distance": {"desk": "features"},
}


def test_pruning_a_dead_block_changes_nothing(values: Callable[..., Any]) -> None:
    measure = PRUNED
    dead = values({**measure, "strategy": {"blocks": [[0], [0]]}}, None, "fid", "distance")
    assert dead["distance"] == [0, 0] and dead["fid"] == pytest.approx([0, 0], abs=1e-3)
    # The first of the ranked strategies skips the least important block at both steps: the dead one.
    ranked = {"ranking": "ablation", "skip": 1, "choice": 0}
    assert values({**measure, "strategy": ranked}, None, "distance")["distance"] == [0, 0]
    alive = values({**measure, "strategy": {"blocks": [[3], [3]]}}, None, "fid", "distance")
    assert min(alive["fid"]) > 0.01 and min(alive["distance"]) > 0.01
    tuning = {"desk": {"updates": 12, "batch": 4, "learning_rate": 3e-3, "decay": "linear"}}
    tuned = values({**measure, "strategy": {"blocks": [[3], [3]]}, "tuning": tuning}, None, "distance")
    assert sum(tuned["distance"]) < sum(alive["distance"])
    with pytest.raises(SkiptuneError, match=r"LPIPS .*missing"):
        values({**measure, "strategy": ranked, "distance": {"desk": "lpips"}}, None, "distance")
    with pytest.raises(SkiptuneError, match="there is no ranked strategy 4: there are 4"):
        values({**measure, "strategy": {**ranked, "choice": 4}}, None, "distance")


def test_what_a_ranked_strategy_skipped_and_which_noise_it_had(small: Scale, bench: Bench, row: Row) -> None:
    own = row({**PRUNED, "strategy": {"ranking": "ablation", "skip": 2, "choice": 0}})
    (result,) = bench.measure([measurement(small, own, own.intervention, small.report, ("distance",))])
    first, second = (set(step.split("+")) for step in result.chosen["blocks"].split(" / "))
    assert "0" in first & second and len(first) == len(second) == 2  # the dead block is the least important
    assert result.bounds == ((142, 191), (192, 241))
    strategy = {"blocks": [[int(number) for number in step] for step in (first, second)]}
    same = row({**PRUNED, "strategy": strategy})
    (by_hand,) = bench.measure([measurement(small, same, same.intervention, small.report, ("distance",))])
    assert by_hand.blocks == result.blocks and min(result.blocks["distance"]) > 0


def test_the_whole_network_keeps_the_images_that_lpips_needs(small: Scale, row: Row, tmp_path: Path) -> None:
    own = row({**PRUNED, "strategy": {"blocks": [[3], [3]]}})
    plain = measurement(small, own, own.intervention, small.report, ("distance",)).settings
    assert isinstance(plain, PruningRun)
    run = replace(plain, lpips=(tmp_path, "digest"))
    assert run.inputs["whole"] == run.whole and not run.kept_whole
    counts = [len(one.build(range(250), {})["images"]) for one in (plain.whole, run.whole)]
    assert counts == [16, 100]


def test_images_are_not_of_the_latents_that_a_student_learned_from(small: Scale, row: Row) -> None:
    tuning = {"desk": {"updates": 1, "batch": 4, "learning_rate": 1e-3, "decay": "none", "first_seed": 242}}
    own = row({**PRUNED, "strategy": {"blocks": [[3], [3]]}, "tuning": tuning})
    made = measurement(small, own, own.intervention, small.report, ("distance",))
    assert made.blocks.bounds[-1] == (192, 241)
    tuning["desk"]["first_seed"] = 241
    with pytest.raises(SkiptuneError, match="learns from seeds 241 to 340, images are of 142 to 241"):
        measurement(small, own, own.intervention, small.report, ("distance",))
    many = {"desk": {"first_seed": 142, "blocks": 6, "size": 50}}
    with pytest.raises(SkiptuneError, match="6 blocks of 50 images; give at least 1 of 2, and 250 images"):
        measurement(small, row({**own.measure, "images": many}), own.intervention, small.report, ("fid",))


def test_pruning_counts_ranking_tuning_and_the_whole_network(small: Scale, row: Row) -> None:
    plain = {**PRUNED, "strategy": {"blocks": [[3], [3]]}}
    assert of_pruning(small, row(plain)) == 2 + 2
    ranked = {**PRUNED, "strategy": {"ranking": "ablation", "skip": 1, "choice": 0}}
    assert of_pruning(small, row(ranked)) == 4 + 2 * (1 + 7) / 100
    tuning = {"desk": {"updates": 5, "batch": 4, "learning_rate": 1e-3, "decay": "none"}}
    assert of_pruning(small, row({**plain, "tuning": tuning})) == 4 + 5 * 4 * 2 * 4 / 100


def test_a_missing_result_tells_why_its_input_failed(small: Scale, row: Row, tmp_path: Path) -> None:
    store, own = RunStore(tmp_path), row({"kind": "noise_error", "ranking": "ablation"}, RANGE)
    made = measurement(small, own, RANGE, small.report, ("mse",))
    looking = Bench(store, Workers(1), computes=False)
    with pytest.raises(NotComputed, match="not computed yet"):
        looking.measure([made])
    assert isinstance(made.settings, BuiltRun)
    open_run(made.settings.inputs["source"], store).write_failure("no room on node7")
    with pytest.raises(NotComputed, match="no room on node7"):
        looking.measure([made])


def test_a_precision_that_would_have_no_effect_is_refused(small: Scale, row: Row) -> None:
    own = row({"kind": "importance", "ranking": "ablation", "step": 1})
    with pytest.raises(SkiptuneError, match="kind importance has no precision bf16"):
        measurement(replace(small, precision="bf16"), own, own.intervention, small.report, ("position_0",))
