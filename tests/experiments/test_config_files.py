"""Files of the configuration read by name are what Hydra makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import config_files
from experiments.config_files import CONFIGS, choice, choice_names, choices, merged
from experiments.scale_config import parse_role
from skiptune.errors import SkiptuneError


@pytest.mark.parametrize("group", ["checkpoint", "features", "model", "sampler"])
def test_as_hydra_composes_it(group: str) -> None:
    found = choices(group)
    assert len(found) >= 10
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for name, values in found.items():
            assert values == OmegaConf.to_container(compose(f"{group}/{name}")[group], resolve=True), name


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


def test_what_is_not_there_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SkiptuneError, match="there is no model 'edm_glyph' in configs/model, did you mean"):
        choice("model", "edm_glyph")
    with pytest.raises(SkiptuneError, match="there is no sampler 'zzz' in configs/sampler; there are .*heun"):
        choice("sampler", "zzz")
    monkeypatch.setattr(config_files, "CONFIGS", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/torn.yaml").write_text("name: [")
    with pytest.raises(SkiptuneError, match=r"torn.yaml: while parsing"):
        choice("model", "torn")


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
