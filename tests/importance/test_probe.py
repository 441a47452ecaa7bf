"""The probe decides as a plain reading of its description does, candidate by candidate; it can be resumed."""

from dataclasses import replace

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.importance import RELEASED, TEXT, ProbeState, Teacher, run_probe, start_probe
from skiptune.importance.draws import uniform
from skiptune.interventions import AttentionPruning, BlockReweighting
from skiptune.samplers import make_sampler

SAMPLER = make_sampler("ddim", steps=2, offset=1, end="first")
NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(7))
# Tolerances inside the range of the tiny networks' errors, so that some candidates pass and some do not.
SMALL = {"runs": 3, "iterations": 3, "tolerance": (1.5e-4, 1.2e-4)}
SETTINGS = {
    "released": replace(RELEASED, **SMALL),
    "released, of several candidates": replace(RELEASED, candidates=2, **SMALL),
    "text": replace(TEXT, **{**SMALL, "runs": 2}),
    "text, falling": replace(TEXT, draws="falling", part="branch", **{**SMALL, "runs": 2, "candidates": 2}),
    # Large changes and thresholds near the weights: blocks are skipped.
    "skipping": replace(
        TEXT, **{**SMALL, "runs": 2, "tolerance": (0.2, 0.2)}, perturbation=(0.1, 0.1),
        thresholds=replace(TEXT.thresholds, accepted=((0, 0), (0, 0), (1, 1))),
    ),
}  # fmt: skip


def predict(guided, x, sigma, weights, skipped, part):
    """The U-Net's noise for one student on its own, both halves of guidance, from its own inputs."""
    nothing, prompt = guided.prompts
    time = guided.model.time(sigma.reshape(1))
    scaled = x / (1 + sigma**2).sqrt()
    halves = [nothing, prompt] if guided.scale != 1 else [prompt]
    rows = {key: torch.cat([half[key].repeat_interleave(len(x), 0) for half in halves]) for key in prompt}
    named = {"encoder_hidden_states": rows.pop("context")}
    if rows:
        named["added_cond_kwargs"] = rows
    with (
        BlockReweighting(weights, part=part).attached_to(guided.unet),
        AttentionPruning(skipped).attached_to(guided.unet),
    ):
        return guided.unet(torch.cat([scaled] * len(halves)), time.float(), **named).sample


@torch.no_grad()
def one_by_one(guided, settings):
    """The thresholds of every iteration, a candidate at a time, with the teacher computed each time."""
    sampler = SAMPLER.fitted(guided)
    begin = start_probe(settings, sampler.num_steps, len(guided.weights))
    ones, none = torch.ones_like(guided.weights), torch.zeros_like(guided.weights, dtype=torch.bool)
    history = []
    for run in range(settings.runs):
        best = begin.weights[run].clone()
        thresholds = torch.zeros_like(best)
        initial = best.clone()
        for iteration in range(settings.iterations):
            state = sampler.start(NOISE)
            for step in range(sampler.num_steps):
                x, sigma = state.x, sampler.sigmas[step]
                own = initial[step] if settings.teacher == "start" else ones
                reference = float((own**2).sum())
                teacher = predict(guided, x, sigma, own, none, settings.part)
                part = step / (sampler.num_steps - 1)
                size, tolerance = (
                    ends[0] + part * (ends[1] - ends[0])
                    for ends in (settings.perturbation, settings.tolerance)
                )
                low, high = -size, 0 if settings.draws == "falling" else size
                changes = uniform(
                    low, high, (settings.candidates, len(own)),
                    settings.seed, "perturbation", iteration, step, run,
                )  # fmt: skip
                q, found = thresholds[step], []
                share = float((best[step] + settings.margin < q).double().mean())
                current = reference / float((best[step] ** 2).sum())
                current += share if settings.count_current_skips else 0
                for change in changes:
                    weights = (best[step] + change).clamp(0, 1)
                    skipped = weights + settings.margin < q
                    student = predict(guided, x, sigma, weights, skipped, settings.part)
                    error = float((student - teacher).square().mean())
                    fit = reference / float((weights**2).sum()) + float(skipped.double().mean())
                    if error <= tolerance and fit > current:
                        found.append((fit, weights))
                if found:
                    best[step] = max(found, key=lambda pair: pair[0])[1]
                shares = settings.thresholds.accepted if found else settings.thresholds.rejected
                done = (iteration + 1) / settings.iterations
                high_p, right_p, low_p = (a + (b - a) * done for a, b in shares)
                new = high_p * q / 2 + right_p * q + low_p * (best[step] - 0.01)
                thresholds[step] = new.clamp(0, 1)
                with BlockReweighting(own, part=settings.part).attached_to(guided):
                    state = sampler.step(guided, state)
                history.append((run, iteration, step, bool(found), thresholds[step].clone()))
    return history


@pytest.fixture(scope="module")
def guided(make_prompted):
    def make(kind, guidance):
        made = make_prompted(kind, guidance)
        made.weights = torch.ones({"sd": 7, "sdxl": 5}[kind], dtype=torch.float64)
        return made

    return {"sd": make("sd", 1.0), "sdxl": make("sdxl", 3.0)}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_decisions_are_those_of_one_by_one_evaluation(guided, kind, name):
    settings, seen = SETTINGS[name], []
    state = run_probe(guided[kind], SAMPLER, NOISE, settings, batch=8, on_step=seen.append)
    for run, iteration, step, accepted, thresholds in one_by_one(guided[kind], settings):
        assert bool(state.accepted[iteration, run, step]) == accepted, (run, iteration, step)
        torch.testing.assert_close(state.thresholds[iteration, run, step], thresholds)
    share = float(state.accepted.double().mean())
    assert 0 < share < 1 or name == "skipping"  # both kinds of decisions were taken
    assert (float(state.skipped.max()) > 0) == (name == "skipping")
    candidates = settings.runs * settings.candidates
    assert len(seen) == settings.iterations * 2 and all(done.evaluated <= candidates for done in seen)


def test_candidates_that_cannot_be_accepted_cost_nothing(guided):
    """Away from the upper end of the weights about half of the candidates have a higher energy."""
    settings, seen = replace(RELEASED, start=(0.5, 0.6), iterations=1), []
    run_probe(guided["sd"], SAMPLER, NOISE, settings, on_step=seen.append)
    assert all(0 < done.evaluated < 15 and done.runs == 15 for done in seen)


def test_resumed_probe_is_that_of_one_run(guided):
    settings, states = SETTINGS["released"], []
    whole = run_probe(guided["sd"], SAMPLER, NOISE, settings, on_iteration=states.append)
    assert [state.iterations for state in states] == [1, 2, 3]
    stored = {name: tensor.clone() for name, tensor in states[1].tensors().items()}
    again = run_probe(guided["sd"], SAMPLER, NOISE, settings, state=ProbeState.of(stored))
    assert whole.tensors().keys() == again.tensors().keys()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    other = run_probe(guided["sd"], SAMPLER, NOISE, replace(settings, seed=1))
    assert not torch.equal(other.weights, whole.weights)
    with pytest.raises(SkiptuneError, match=r"stored probe is of \[3, 2, 7\] .*, not \[4, 2, 7\]"):
        run_probe(guided["sd"], SAMPLER, NOISE, replace(settings, runs=4), state=whole)


def test_more_runs_leave_the_first_ones_as_they_are(guided):
    settings = SETTINGS["released"]
    few, more = (run_probe(guided["sd"], SAMPLER, NOISE, replace(settings, runs=runs)) for runs in (2, 3))
    assert torch.equal(few.accepted, more.accepted[:, :2])
    torch.testing.assert_close(few.weights, more.weights[:2], rtol=0, atol=0)


def test_the_prefix_is_not_computed_again(guided):
    denoiser = guided["sdxl"]
    calls = []
    # Before the first transformer, down_blocks.1.attentions.0.
    before = [denoiser.unet.down_blocks[0].resnets[0], denoiser.unet.down_blocks[1].resnets[0]]
    handles = [module.conv1.register_forward_hook(lambda *_: calls.append(1)) for module in before]
    teacher = Teacher(denoiser, SAMPLER, NOISE)
    assert len(calls) == 2 * 2  # each once a step
    weights = 1 - 0.05 * torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    weights[2] = 1
    errors = teacher.errors(1, weights, torch.zeros(3, 5, dtype=torch.bool))
    assert len(calls) == 4 and teacher.evaluations == 3
    for handle in handles:
        handle.remove()
    assert errors.shape == (3, 2) and bool((errors[:2] > 1e-6).all()) and bool((errors[2] < 1e-12).all())


def test_network_is_as_it_was(guided):
    denoiser = guided["sd"]
    x, sigma = NOISE, torch.tensor(2.0)
    before = denoiser(x, sigma)
    run_probe(denoiser, SAMPLER, NOISE, replace(SETTINGS["text"], iterations=1))
    assert torch.equal(denoiser(x, sigma), before)
    modules = list(denoiser.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not any("forward" in module.__dict__ for module in modules)


def test_stochastic_samplers_have_no_teacher(guided):
    with pytest.raises(SkiptuneError, match="stochastic"):
        Teacher(guided["sd"], make_sampler("ddim", steps=2, eta=1.0), NOISE)
