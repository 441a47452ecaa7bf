"""Files of the configuration read by name are what Hydra makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import config_files
from experiments.config_files import CONFIGS, choice, choice_names, choices, merged
from experiments.scale_config import parse_role
from skiptune.errors import SkiptuneError


@pytest.mark.parametrize("group", ["checkpoint", "features", "model", "sampler", "scale"])
def test_as_hydra_composes_it(group: str) -> None:
    found = choices(group)
    assert found
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for name, values in found.items():
            composed = compose(f"{group}/{name}")[group]
            if group == "checkpoint":  # each is composed in a place of its own
                composed = composed[name]
            assert values == OmegaConf.to_container(composed, resolve=True), name


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty group of models, which nothing remembers afterwards."""
    monkeypatch.setattr(config_files, "CONFIGS", tmp_path)
    (tmp_path / "model").mkdir()
    choice.cache_clear()
    yield tmp_path / "model"
    choice.cache_clear()


def test_bases_and_numbers_are_as_in_hydra(models: Path) -> None:
    files = {
        "base": "a: 0\nb: {c: 1, d: 2}\n",
        "last": "defaults: [base]\na: 1e-3\nb: {d: 4.}\n",
        "first": "defaults: [_self_, base]\na: 1\nb: {d: 3}\n",
        "far": "defaults: [last, _self_]\na: -2E+4\n",
        "plain": "a: [1.5e3, 1.0E4, 1_0e2, 2024-01-01, 1:30, 0x1f, 1_000, .5, +1, no, ~, 1e, e5, '1e3']\n",
    }
    for name, text in files.items():
        (models / f"{name}.yaml").write_text(text)
    with initialize_config_dir(str(models.parent), version_base="1.3"):
        composed = {name: OmegaConf.to_container(compose(f"model/{name}")["model"]) for name in files}
    assert choices("model") == composed
    assert composed["last"] == {"a": 0.001, "b": {"c": 1, "d": 4.0}} and composed["far"]["a"] == -2e4


def test_names_are_paths_in_their_group() -> None:
    assert {"edm_glyphs", "ddim1_cifar10"} <= {*choice_names("model")}
    assert "skip_tuning/02" in choice_names("table")


def test_inner_mappings_are_merged() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": 3, "e": {"f": 4}}
    assert merged(base, {"a": {"c": 5}, "d": {"g": 6}, "e": None}) == {
        "a": {"b": 1, "c": 5},
        "d": {"g": 6},
        "e": None,
    }
    assert base["a"] == {"b": 1, "c": 2}


def test_what_is_not_there() -> None:
    with pytest.raises(SkiptuneError, match="there is no model 'edm_glyph' in configs/model, did you mean"):
        choice("model", "edm_glyph")
    with pytest.raises(SkiptuneError, match="there is no sampler 'zzz' in configs/sampler; there are .*heun"):
        choice("sampler", "zzz")
    with pytest.raises(SkiptuneError, match="there is no model '../sampler/heun' in configs/model"):
        choice("model", "../sampler/heun")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "own.yaml: while parsing"),
        ("# nothing", "own.yaml: expected a mapping, found nothing"),
        ("[1, 2]", "own.yaml: expected a mapping, found list"),
        ("defaults: [{/model@loss.teacher: x}]", "own.yaml: defaults must name other files of configs/model"),
        ("defaults: [own]", "own.yaml: defaults must name other files of configs/model"),
        ("defaults: own", "own.yaml: defaults must name other files of configs/model"),
        ("defaults: [theirs]", "there is no model 'theirs' in configs/model"),
        ("file: ${name}.pkl", "own.yaml: write the value itself in place of"),
    ],
)
def test_what_is_broken(models: Path, text: str, said: str) -> None:
    (models / "own.yaml").write_text(text)
    with pytest.raises(SkiptuneError, match=said):
        choice("model", "own")


def test_a_role_names_its_model_and_features() -> None:
    given = {"model": "edm_glyphs_hybrid_8k", "features": "glyphs_cnn", "reference_images": 500}
    role = parse_role("mine", given)
    assert role.model["name"] == "edm_glyphs_hybrid_8k" and role.model["dataset"] == "glyphs"
    assert role.features["kind"] == "desk" and role.suffixes == ("",) and role.reference_images == 500
    for change, said in (
        ({"model": "edm_glyph"}, "there is no model 'edm_glyph'"),
        ({"features": None}, "scale.roles.mine.features is None: name one of configs/features"),
        ({"model": {"name": "edm_glyphs"}}, "scale.roles.mine.model is {'name': .*name one of configs/model"),
        ({"colour": 1}, "scale.roles.mine.colour: no such setting; settings: model, features, reference_im"),
    ):
        with pytest.raises(SkiptuneError, match=said):
            parse_role("mine", {**given, **change})
