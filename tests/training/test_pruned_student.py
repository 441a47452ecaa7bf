"""Fine-tuning a pruned student: what is trained, along which trajectory, and what becomes of it."""

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")
from small_text_to_image import DESCRIPTION, PROMPTS, saved, small  # noqa: E402
from test_loop import Stop, assert_same, stop_after  # noqa: E402

from skiptune.checkpoints.students import load_student, student_name  # noqa: E402
from skiptune.denoisers import build_denoiser  # noqa: E402
from skiptune.errors import SkiptuneError  # noqa: E402
from skiptune.interventions import AttentionPruning, find_transformer_blocks, skipping  # noqa: E402
from skiptune.samplers import initial_noise, make_sampler  # noqa: E402
from skiptune.training.loop import train  # noqa: E402
from skiptune.training.objectives import make_objective  # noqa: E402
from skiptune.training.objectives.pruned_student import PrunedStudent  # noqa: E402
from skiptune.training.settings import DenoiserTraining  # noqa: E402

SAMPLER = {"name": "ddim", "steps": 2, "offset": 1, "end": "first"}
BLOCKS = [[0], [0, 2]]  # of 0 to 2; block 0 is skipped at both steps


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The configuration of a trained model in the folder of checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    saved("small", folder)
    model = {"name": "small", "kind": "trained", "file": "small.safetensors", "denoiser": DESCRIPTION}
    return {"teacher": model, "checkpoints": str(folder)}


def loss_of(teacher, **changes):
    named = {
        "name": "pruned_student",
        "prompts": PROMPTS[:1],
        "blocks": BLOCKS,
        "sampler": SAMPLER,
        "latents": 6,
    }
    return {**named, **teacher, **changes}


def objective_of(teacher, **changes):
    return make_objective(loss_of(teacher, **changes), build_denoiser(DESCRIPTION))


def unneeded():
    raise AssertionError("it needs no data")


def value(objective, count=6):
    return objective.loss(count, unneeded, torch.Generator().manual_seed(0))


def test_loss_is_the_distance_from_the_whole_network_along_the_students_trajectory(teacher):
    whole, student = small(), small()
    sampler = make_sampler(**SAMPLER).fitted(whole)
    levels = sampler.sigmas[:-1].tolist()
    inputs = whole.inputs(PROMPTS[:1])
    context = {"context": inputs["context"].expand(6, -1, -1)}
    pruning = AttentionPruning(skipping(find_transformer_blocks(student), BLOCKS), tuple(levels))
    state, errors = sampler.start(initial_noise(range(42, 48), (3, 8, 8))[0]), []
    for level in levels:
        with pruning.attached_to(student):
            own = student(state.x, torch.tensor(level), **context)
        right = whole(state.x, torch.tensor(level), **context)
        errors.append(((own - right) / level).square().mean())
        state = sampler.step(lambda x, sigma, own=own: own, state)
    found = value(objective_of(teacher))
    assert float(errors[0]) > 0 and float(errors[1]) > 0
    # Weights went through float16, and the latents are in another order.
    torch.testing.assert_close(found.detach(), torch.stack(errors).mean(), rtol=0.02, atol=0)
    assert value(objective_of(teacher, blocks=[[], []])).detach() == 0
    assert value(objective_of(teacher, prompts=PROMPTS)).detach() != found.detach()


def test_only_transformers_that_some_step_runs_are_trained(teacher):
    objective = objective_of(teacher)
    value(objective).backward()
    names = {name for name, _ in objective.trained.named_parameters()}
    assert all(".attentions." in name and "down_blocks" not in name for name in names)
    assert any("mid_block" in name for name in names) and any("up_blocks" in name for name in names)
    own = dict(objective.denoiser.named_parameters())
    assert {name for name, parameter in own.items() if parameter.grad is not None} == names
    assert all(own[name] is parameter for name, parameter in objective.trained.named_parameters())
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_a_stopped_training_goes_on_and_the_student_comes_nearer(teacher, tmp_path):
    settings = DenoiserTraining(
        name="student", denoiser=DESCRIPTION, dataset="none", images=48, batch=6, learning_rate=2e-3,
        warmup_images=0, decay_images=0, ema_halflife=0, workers=1, checkpoint_every=2, log_every=1,
        loss=loss_of(teacher),
    )  # fmt: skip
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "parts", stop_after(30))
    assert_same(train(settings, tmp_path / "parts"), whole)
    assert whole.curve[-1]["loss"] < 0.9 * whole.curve[0]["loss"]
    before = small().state_dict()
    changed = {
        name for name, now in whole.weights.items() if not torch.equal(now, before[name].half().float())
    }
    assert changed == set(whole.average)


def test_the_script_writes_a_file_that_is_put_over_the_model(teacher, tmp_path):
    name = student_name("small", BLOCKS)
    assert name == "small_without_0_0-2" and student_name("m", [[], [3]]) == "m_without_none_3"
    given = {"model": {**teacher["teacher"], "dataset": "none"}, "training": {"kind": "pruned_student"}}
    from scripts import train as script

    loss = loss_of(teacher)
    given["training"] |= {
        "images": 6,
        "batch": 6,
        "workers": 1,
        "checkpoint_every": 1,
        "log_every": 1,
        "loss": loss,
    }
    tracker = {"name": "none", "mode": "offline", "project": "", "group": ""}
    config = {
        **given,
        "tracker": tracker,
        "download": False,
        "rendered": None,
        "suffix": "",
        "outputs": str(tmp_path),
    }
    training = dict(given["training"])
    training.pop("kind")
    script.train_pruned_student({**config, "export": str(tmp_path / "export")}, training)
    student = load_student(name, tmp_path / "export")
    record = json.loads((tmp_path / "export" / f"{name}.json").read_text())
    assert student.blocks == ((0,), (0, 2)) and student.model_sha256 == record["inputs"]["teacher"]
    network = small()
    x, sigma = torch.randn(1, 3, 8, 8), torch.tensor(1.0)
    prompted = network.prompted(PROMPTS[:1])
    before = prompted(x, sigma)
    with student.attached_to(network):
        assert not torch.equal(prompted(x, sigma), before)
    assert torch.equal(prompted(x, sigma), before)
    other = build_denoiser({**DESCRIPTION, "kwargs": {**DESCRIPTION["kwargs"], "unet": {
        **DESCRIPTION["kwargs"]["unet"], "block_out_channels": [8, 8]}}})  # fmt: skip
    with pytest.raises(SkiptuneError, match="the student is another's"), student.attached_to(other):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": [[0, 1, 2]] * 2}, "nothing to fine-tune"),
        ({"blocks": [[0], [7]]}, "there is no transformer block 7"),
        ({"blocks": [[0]] * 3}, "blocks are given for 3 steps, the sampler has 2"),
        ({"prompts": []}, "at least one text"),
    ],
)
def test_settings_that_do_not_fit(teacher, changes, message):
    with pytest.raises(SkiptuneError, match=message):
        objective_of(teacher, **changes)


def test_more_images_than_latents(teacher):
    objective = objective_of(teacher)
    assert isinstance(objective, PrunedStudent)
    with pytest.raises(SkiptuneError, match="a batch of 7 has only 6 latents"):
        value(objective, 7)
