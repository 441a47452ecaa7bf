"""A condition in words: overrides that measure it, a name that tells it apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.scale import Scale
from experiments.wording import condition_name, override_words

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_overrides_measure_the_same_condition(scales: dict[str, Scale]) -> None:
    churned = {"name": "heun", "steps": 5, "sigma_max": 20}
    changed = {"name": "skip_tuning", "rho_bottom": 0.7, "bottom_first": False, "sigma_high": 2}
    settings = scales["desk"].sampling("class_conditional_edm", churned, changed)
    words = override_words(settings.resolved())
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("measure", [f"{name}={value}" for name, value in words.items()])
    given = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(given, dict) and given["model"]["name"] == settings.model.name
    again = replace(settings, sampler=given["sampler"], intervention=given["intervention"])
    assert again.resolved() == settings.resolved()
    assert condition_name(settings.resolved()) == (
        "edm_glyphs heun steps=5 sigma_max=20.0 skip_tuning rho_bottom=0.7 rho_top=1.0 bottom_first=false "
        "sigma_high=2.0"
    )


def test_interventions_of_lists_and_precision_are_words(scales: dict[str, Scale]) -> None:
    blocks = {"name": "block_reweighting", "weights": [[1.0, 0.5]]}
    made = scales["desk"].sampling("class_conditional_edm", {"name": "unipc", "steps": 1}, blocks)
    name = condition_name(replace(made, precision="bf16").resolved())
    assert name == "edm_glyphs unipc steps=1 block_reweighting weights=[[1.0,0.5]] precision=bf16"
