"""Fine-tuning a pruned student: what is trained, along which trajectory, and what becomes of it."""

import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")
from small_text_to_image import DESCRIPTION, PROMPTS, small  # noqa: E402

from skiptune.denoisers import build_denoiser  # noqa: E402
from skiptune.errors import SkiptuneError  # noqa: E402
from skiptune.interventions import AttentionPruning, find_transformer_blocks, skipping  # noqa: E402
from skiptune.interventions.replaced_weights import replaced_weights  # noqa: E402
from skiptune.samplers import initial_noise, make_sampler  # noqa: E402
from skiptune.training.pruned_student import FineTuning, PrunedStudent, fine_tuned  # noqa: E402

SAMPLER = {"name": "ddim", "steps": 2, "offset": 1, "end": "first"}
BLOCKS = [[0], [0, 2]]  # of 0 to 2; block 0 is skipped at both steps
SETTINGS = FineTuning(updates=8, batch=6, learning_rate=2e-3, decay="linear", latents=6)


def student_of(blocks=BLOCKS, prompts=PROMPTS[:1]):
    teacher = small()
    return PrunedStudent(small(), teacher, teacher.inputs(prompts), blocks, SAMPLER, SETTINGS)


def value(student):
    return student.loss(6, torch.Generator().manual_seed(0))


def test_loss_is_the_distance_from_the_whole_network_along_the_students_trajectory():
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
    found = value(student_of())
    assert float(errors[0]) > 0 and float(errors[1]) > 0
    # The latents are in another order.
    torch.testing.assert_close(found.detach(), torch.stack(errors).mean(), rtol=1e-4, atol=0)
    assert value(student_of([[], []])).detach() == 0
    assert value(student_of(prompts=PROMPTS)).detach() != found.detach()


def test_only_transformers_that_some_step_runs_are_trained():
    student = student_of()
    value(student).backward()
    names = {name for name, _ in student.transformers.named_parameters()}
    assert all(".attentions." in name and "down_blocks" not in name for name in names)
    assert any("mid_block" in name for name in names) and any("up_blocks" in name for name in names)
    own = dict(student.student.named_parameters())
    assert {name for name, parameter in own.items() if parameter.grad is not None} == names
    assert all(own[name] is parameter for name, parameter in student.transformers.named_parameters())
    assert all(parameter.grad is None for parameter in student.teacher.parameters())


def test_a_student_comes_nearer_and_its_weights_are_put_over_the_network():
    teacher, prompts = small(), small().inputs(PROMPTS[:1])
    untouched = {name: value.clone() for name, value in teacher.state_dict().items()}
    weights = fine_tuned(teacher, prompts, BLOCKS, SAMPLER, SETTINGS)
    assert all(torch.equal(value, untouched[name]) for name, value in teacher.state_dict().items())
    before = value(student_of()).detach()
    student = student_of()
    with replaced_weights(student.student, weights):
        assert value(student).detach() < 0.9 * before
    assert torch.equal(value(student).detach(), before)
    other = build_denoiser({**DESCRIPTION, "kwargs": {**DESCRIPTION["kwargs"], "unet": {
        **DESCRIPTION["kwargs"]["unet"], "block_out_channels": [8, 8]}}})  # fmt: skip
    with pytest.raises(SkiptuneError, match="the weights are another's"), replaced_weights(other, weights):
        pass


def test_learning_rate():
    linear, constant = (FineTuning(4, 2, 0.8, decay) for decay in ("linear", "none"))
    assert [linear.rate_at(i) for i in range(4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert {constant.rate_at(i) for i in range(4)} == {0.8}
    with pytest.raises(SkiptuneError, match="unknown decay 'cosine'; choose one of linear, none"):
        FineTuning(4, 2, 0.8, "cosine")
    with pytest.raises(SkiptuneError, match="a batch of 101 has only 100 latents"):
        FineTuning(4, 101, 0.8, "none")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([[0, 1, 2]] * 2, "nothing to fine-tune"),
        ([[0], [7]], "there is no transformer block 7"),
        ([[0]] * 3, "blocks are given for 3 steps, the sampler has 2"),
    ],
)
def test_blocks_that_do_not_fit(blocks, message):
    with pytest.raises(SkiptuneError, match=message):
        student_of(blocks)
