"""Energy, fitness, thresholds, votes and scores against cases computed by hand."""

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.importance import RELEASED, TEXT, Importance, ProbeSettings, ThresholdRule
from skiptune.importance.draws import uniform
from skiptune.importance.rules import below_threshold, energy, fitness, over_steps, updated_thresholds
from skiptune.importance.settings import HARD


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_energy_and_fitness():
    weights = vector(1.0, 0.5)
    assert energy(weights) == 1.25
    skipped = below_threshold(weights, vector(0.2, 0.6), 0.0)
    assert skipped.tolist() == [False, True]
    assert float(fitness(weights, skipped, torch.tensor(2.0))) == pytest.approx(1.6 + 0.5)
    # Of two sets the one of lower energy is fitter.
    lower = vector(0.9, 0.5)
    nothing = torch.zeros(2, dtype=torch.bool)
    assert fitness(lower, nothing, torch.tensor(2.0)) > fitness(weights, nothing, torch.tensor(2.0))


def test_margin_of_skipping():
    weights, thresholds = vector(0.5, 0.5), vector(0.5 + 5e-7, 0.5 + 5e-6)
    assert below_threshold(weights, thresholds, RELEASED.margin).tolist() == [False, True]
    assert below_threshold(weights, thresholds, TEXT.margin).tolist() == [True, True]


def test_ramps_over_steps():
    assert [over_steps((0.02, 0.05), step, 4) for step in range(4)] == pytest.approx([0.02, 0.03, 0.04, 0.05])
    assert over_steps((0.02, 0.05), 0, 1) == 0.02


def test_thresholds_by_conditional_expectation():
    q, v = vector(0.5), vector(0.9)
    yes, no = torch.tensor([True]), torch.tensor([False])

    def new(rule, accepted, progress=0.5):
        return float(updated_thresholds(rule, q, v, accepted, progress))

    # 0.06 * 0.25 + 0.655 * 0.5 + 0.285 * 0.89 and 0.39 * 0.25 + 0.57 * 0.5 + 0.04 * 0.89
    assert new(ThresholdRule(), yes) == pytest.approx(0.59615)
    assert new(ThresholdRule(), no) == pytest.approx(0.4181)
    # At the end of the run: 0.06 * 0.25 + 0.84 * 0.5 + 0.10 * 0.89
    assert new(ThresholdRule(), yes, 1.0) == pytest.approx(0.524)
    assert new(HARD, yes) == pytest.approx(0.89) and new(HARD, no) == 0.25
    assert float(updated_thresholds(HARD, q, vector(0.0), yes, 0.5)) == 0  # never below 0


def test_votes_and_scores():
    # Descending thresholds: blocks 1, 0, 2 in the first run and 0, 2, 1 in the second.
    thresholds = torch.tensor([[[0.3, 0.9, 0.1]], [[0.5, 0.2, 0.4]]], dtype=torch.float64)
    importance = Importance.of_thresholds(thresholds, ProbeSettings())
    assert importance.votes.tolist() == [[3, 4, 5]]
    assert importance.scores.tolist() == [pytest.approx([3 / 6, 4 / 6, 5 / 6])]
    assert importance.ranking([1, 2, 3]) == ((1, 2, 3),)


def test_scores_of_one_run_are_the_positions():
    m = 7
    thresholds = torch.linspace(0.9, 0.1, m, dtype=torch.float64).expand(15, 2, m)
    importance = Importance.of_thresholds(thresholds, ProbeSettings())
    expected = [(i + 1) / m for i in range(m)]
    assert importance.scores.tolist() == [pytest.approx(expected)] * 2
    assert importance.ranking(range(m)) == (tuple(range(m)),) * 2


def test_equal_thresholds_are_split_at_random_but_by_the_seed():
    thresholds = torch.full((15, 1, 7), 0.5, dtype=torch.float64)
    first, again, other = (Importance.of_thresholds(thresholds, ProbeSettings(seed=s)) for s in (1, 1, 2))
    assert torch.equal(first.votes, again.votes) and not torch.equal(first.votes, other.votes)
    assert first.votes.sum() == 15 * 28 and first.votes.max() < 15 * 7  # no block wins every tie


def test_errors_rank_the_other_way():
    errors = torch.tensor([[[0.1, 0.0, 0.7]], [[0.2, 0.1, 0.3]]], dtype=torch.float64)
    importance = Importance.of_errors(errors)
    assert importance.votes.tolist() == [[4, 2, 6]] and importance.ranking([1, 2, 3]) == ((2, 1, 3),)


def test_draws_belong_to_their_place():
    a = uniform(-1.0, 2.0, (1000,), 42, "perturbation", 3)
    assert torch.equal(a, uniform(-1.0, 2.0, (1000,), 42, "perturbation", 3))
    assert not torch.equal(a, uniform(-1.0, 2.0, (1000,), 42, "perturbation", 4))
    assert -1 <= a.min() < -0.9 and 1.9 < a.max() < 2 and abs(float(a.mean()) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"runs": 0}, "runs of the Importance Probe is 0, it must be at least 1"),
        ({"teacher": "student"}, "teacher of the Importance Probe is .student., it must be one of"),
        ({"draws": "rising"}, "one of symmetric, falling"),
        ({"start": (0.0, 1.0)}, r"a range inside \(0, 1\]"),
        ({"tolerance": (1e-4, -1.0)}, "two numbers from 0 up"),
    ],
)
def test_mistakes_are_one_line(settings, line):
    with pytest.raises(SkiptuneError, match=line):
        ProbeSettings(**settings)


def test_probabilities_of_a_threshold_add_up():
    with pytest.raises(SkiptuneError, match="must add up to 1"):
        ThresholdRule(accepted=((0.1, 0.1), (0.5, 0.5), (0.5, 0.5)))
