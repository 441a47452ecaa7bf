"""Decoded latents: paths between them, and distances of what several models make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.registry import kind_of, measurement
from experiments.s2dm.interpolation import Interpolation, path_shape
from experiments.s2dm.latent_distance import LatentDistances, image_distances
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.data.images import to_uint8
from skiptune.errors import SkiptuneError
from skiptune.runtime.generation import sample_images
from skiptune.runtime.networks import cached_model
from skiptune.samplers import initial_noise, make_sampler
from skiptune.samplers.interpolation import linear, spherical

DIGITS, TWIN = "unconditional_edm", "twin"
PATH = {"kind": "interpolation", "path": "spherical", "points": 5}
EULER = {"name": "euler", "steps": 3}
Desk = dict[str, Scale]


@pytest.fixture
def desk(scales: Desk) -> Scale:
    """The desk with a second role that the same model plays."""
    roles = scales["desk"].roles
    return replace(scales["desk"], roles={**roles, TWIN: roles[DIGITS]})


def condition(
    scale: Scale,
    measure: dict[str, Any],
    *metrics: str,
    role: str = DIGITS,
    sampler: Mapping[str, Any] = EULER,
) -> ImageMeans:
    row = RowConfig("id", "label", "arm", role, measure, sampler, {}, ("desk",), (), None, {}, {})
    calls = kind_of(row).evaluations(scale, row)
    assert calls == len(measure.get("models", [role])) * (4 if "eta" in sampler else 3)
    made = measurement(scale, row, {"name": "none"}, SeedBlocks(0, 1, 250), metrics)
    assert isinstance(made, ImageMeans)
    return made


def interpolated(scale: Scale, **change: Any) -> Interpolation:
    run = condition(scale, {**PATH, **change}, "monotone").settings
    assert isinstance(run, Interpolation)
    return run


def test_shape_of_known_paths() -> None:
    distance = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2], [0, 0.1, 0.9, 1], [0, 0, 0, 0], [0, 2, 1, 1.5]])
    found = path_shape(distance)
    assert found["monotone"].tolist() == [1, 0, 1, 0, 0]
    assert found["rising"].tolist() == pytest.approx([1, 2 / 3, 1, 0, 2 / 3])
    assert found["largest"].tolist() == pytest.approx([1 / 3, 1, 0.8, 1, 4 / 3])


def test_where_latents_are_the_images_the_distance_rises_in_known_steps() -> None:
    """With the identity for a decoder: equal steps on a line, those of a chord on an arc."""
    a, b = (initial_noise([seed], (1, 8, 8))[0].expand(10, -1, -1, -1) for seed in (3, 4))
    weights = torch.linspace(0, 1, 10, dtype=torch.float64)
    line = (linear(a, b, weights) - a).flatten(1).norm(dim=1)
    b = b * a[0].norm() / b[0].norm()  # of equal length, so that the path is on a sphere
    arc = (spherical(a, b, weights) - a).flatten(1).norm(dim=1)
    found = path_shape(torch.stack([line, arc]))
    assert found["monotone"].tolist() == [1, 1]
    angle = float((a[0].double() * b[0]).sum() / a[0].double().norm() ** 2)
    angle = float(torch.tensor(angle).arccos())
    expected = torch.sin(torch.tensor(angle / 18)) / torch.sin(torch.tensor(angle / 2))
    assert found["largest"].tolist() == pytest.approx([1 / 9, float(expected)], rel=1e-5)


def test_a_path_goes_from_one_sample_to_another(desk: Scale) -> None:
    run = interpolated(desk)
    found = run.compute(range(10))  # two paths of five points
    seeds = [0, 4, 5, 9]
    sampler, denoiser = make_sampler(**run.sampler), cached_model(run.model, "cpu")
    ((images, calls),), _ = sample_images(denoiser, sampler, [{"name": "none"}], seeds)  # type: ignore[arg-type]
    ends = found["images"][seeds].int()
    assert int((ends - to_uint8(images).int()).abs().max()) <= 1  # another batch rounds differently
    assert found["nfe"].tolist() == [calls] * 10 == [3.0] * 10
    distance = found["distance"].reshape(2, 5)
    assert (distance[:, 0] == 0).all() and (distance[:, 1:] > 0).all()
    torch.testing.assert_close(found["largest"].reshape(2, 5)[:, 0], path_shape(distance)["largest"])
    for name in ("monotone", "rising", "largest"):  # a path's value stands at each of its images
        assert (found[name].reshape(2, 5) == found[name].reshape(2, 5)[:, :1]).all()


def test_both_kinds_of_path_have_the_same_ends(desk: Scale) -> None:
    arc, line = (interpolated(desk, path=path).compute(range(5)) for path in ("spherical", "linear"))
    assert torch.equal(arc["images"][[0, -1]], line["images"][[0, -1]])
    assert not torch.equal(arc["images"][2], line["images"][2])
    assert float(arc["distance"][-1]) == float(line["distance"][-1])


def test_images_of_the_first_paths_are_kept(desk: Scale) -> None:
    assert interpolated(desk).compute(range(25))["images"].shape == (20, 1, 8, 8)


def test_equal_models_have_no_distance_and_different_latents_have(desk: Scale) -> None:
    measure = {"kind": "latent_distance", "models": [DIGITS, TWIN]}
    equal = condition(desk, {**measure, "other": TWIN}, "pixel", "feature")
    apart = condition(desk, measure, "pixel", "feature", role=TWIN)
    assert equal.settings.resolved() == apart.settings.resolved()  # rows of equal models are one run
    assert equal.stored == {"pixel": "pixel_equal_0_1", "feature": "feature_equal_0_1"}
    assert apart.stored == {"pixel": "pixel_different_1", "feature": "feature_different_1"}
    found = equal.settings.compute(range(6))
    assert found["pixel_equal_0_1"].tolist() == found["feature_equal_0_1"].tolist() == [0] * 6
    assert torch.equal(found["pixel_different_0"], found["pixel_different_1"])
    assert (found["pixel_different_0"] > 0.05).all() and (found["feature_different_0"] > 0).all()
    assert found["nfe"].tolist() == [3.0] * 6
    # The next latent of a seed is that of the next seed, the last one's is the first.
    shorter = equal.settings.compute(range(2))["pixel_different_0"]
    assert float(shorter[0]) == float(shorter[1]) == pytest.approx(float(found["pixel_different_0"][0]), 1e-3)


def test_different_models_are_compared_pair_by_pair(desk: Scale) -> None:
    run = condition(desk, {"kind": "latent_distance", "models": [DIGITS, TWIN], "other": TWIN}, "pixel")
    assert isinstance(run.settings, LatentDistances)
    names = {f"{name}_{which}" for name in ("pixel", "feature")
             for which in ("equal_0_1", "different_0", "different_1")}  # fmt: skip
    assert set(run.settings.compute(range(2))) == names | {"nfe"}
    black, white = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.full((2, 1, 2, 2), 255).byte()
    features = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    distances = image_distances((black, features[0]), (white, features[1]))
    assert distances["pixel"].tolist() == [2, 2] and distances["feature"].tolist() == [5, 0]


def test_models_that_are_compared_have_one_training_seed(desk: Scale) -> None:
    """Of roles trained on the same seeds block i is that of training seed i, in all of them."""
    roles = dict(desk.roles)
    for name in (DIGITS, TWIN):
        roles[name] = replace(roles[name], suffixes=("", "_seed1"))
    several = replace(desk, roles=roles, report=SeedBlocks(500, 2, 250)).of_trained(TWIN)
    assert [one.report.seeds for one in several] == [range(500, 750), range(750, 1000)]
    for one, suffix in zip(several, ("", "_seed1"), strict=True):
        names = {one.role(name).model["name"] for name in (DIGITS, TWIN)}
        assert names == {f"edm_digits_uncond{suffix}"}
        assert one.role("class_conditional_edm").model["name"] == "edm_glyphs"


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ({**PATH, "points": 7}, "a path of 7 points: use 3 or more, and a divisor of 250"),
        ({**PATH, "points": 2}, "a path of 2 points"),
        ({**PATH, "path": "curved"}, "'curved' is not one of spherical, linear"),
        ({"kind": "latent_distance", "models": [TWIN]}, "measure.models lacks the role unconditional_edm"),
        ({"kind": "latent_distance", "models": [DIGITS], "other": "x"}, "measure.models lacks the role x"),
        ({"kind": "latent_distance", "models": [DIGITS], "other": DIGITS}, "other is the row's own role"),
        ({"kind": "latent_distance", "models": DIGITS}, "models: expected a list"),
    ],
)
def test_mistakes_are_one_line(desk: Scale, measure: dict[str, Any], message: str) -> None:
    row = RowConfig("id", "label", "arm", DIGITS, measure, EULER, {}, (), (), None, {}, {})
    with pytest.raises(SkiptuneError, match=message) as caught:
        measurement(desk, row, {"name": "none"}, SeedBlocks(0, 1, 250), ("pixel",))
    assert "\n" not in str(caught.value)


def test_what_is_no_function_of_the_latent_is_refused(desk: Scale) -> None:
    with pytest.raises(SkiptuneError, match="edm_glyphs takes classes"):
        condition(desk, PATH, "monotone", role="class_conditional_edm").settings.compute(range(5))
    noisy = {"name": "ddim", "steps": 3, "eta": 1.0}
    with pytest.raises(SkiptuneError, match="stochastic"):
        condition(desk, PATH, "monotone", sampler=noisy).settings.compute(range(5))
