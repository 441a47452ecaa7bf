"""A table of scores of prompts from its configuration to its files, with every drawing of this paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.bench import Bench
from experiments.make_table import make_table
from experiments.scale import Scale
from experiments.tables.read import parse_table

DDIM = {"name": "ddim", "steps": 2, "spacing": "trailing", "end": "first"}
COMMON: dict[str, Any] = {"role": "sd_turbo", "sampler": DDIM}
SCORES = {**COMMON, "measure": {"kind": "prompt_scores"}, "metrics": ["score", "distance"]}
WEIGHT = {"name": "block_weight", "block": 3}


def test_a_table_of_prompts(small: Scale, bench: Bench, tmp_path: Path) -> None:
    rows = [
        {**SCORES, "id": "vanilla", "label": "vanilla", "arm": "vanilla", "metrics": ["score"]},
        *(
            {
                **SCORES, "id": f"w{weight:g}", "label": f"block 3 times {weight:g}", "arm": "weight",
                "intervention": {**WEIGHT, "weight": weight}, "baseline": "vanilla", "paper": {"score": 0.29},
                "paper_settings": {"suspect": {"score": 0.28}} if weight > 1 else {},
            }
            for weight in (0.5, 1.5)
        ),
        *(
            {
                **COMMON, "id": f"step{step}", "label": f"step {step}", "arm": "ranking",
                "measure": {"kind": "importance", "ranking": "ablation", "step": step},
                "metrics": [f"importance_{block}" for block in range(5)],
            }
            for step in (0, 1)
        ),
    ]  # fmt: skip
    metrics = {"score": True, "distance": False, **{f"importance_{block}": True for block in range(5)}}
    test = {"arms": ["weight"], "metrics": ["score"], "sign": "-", "form": "some"}
    claim = {"id": "C", "statement": "S", "rule": "gains", "parameters": {"tests": {"desk": [test]}}}
    grid = {"draw": "prompt_grid", "prompts": 3, "split": "test"}
    lines = {"draw": "lines", "x": "weight", "y": ["score"]}
    config = parse_table(
        {
            "paper": "importance_probe",
            "supplement": "test",
            "title": "small",
            "dataset": "none",
            "columns": [
                {"key": key, "title": key, "kind": "metric", "digits": 4, "ratio": False, "shown": shown}
                for key, shown in metrics.items()
            ]
            + [{"key": "gain", "title": "gain", "kind": "gain", "of": "score", "digits": 4}],
            "rows": rows,
            "claims": [claim],
            "figures": [
                {"draw": "effects", "metrics": ["score"], "linear_within": 0.01, "caption": "c"},
                {"draw": "plane", "x": "distance", "y": "score", "y_minus_baseline": True, "caption": "c",
                 "y_title": {"desk": "agreement"}},
                {"draw": "importance_map", "metric": "importance", "caption": "c"},
                {**grid, "rows": [["vanilla"], ["w0.5", "w1.5"]], "caption": "c"},
                {**lines, "level_arm": "vanilla", "arms": ["weight"], "caption": "c"},
            ],
        },
        "small",
    )  # fmt: skip
    result = make_table(config, small, bench, tmp_path)
    folder = tmp_path / "desk/importance_probe"
    page = (folder / "supplement_test.md").read_text()
    assert "values are means over 8 prompts, [ ] are 95% t intervals over prompts" in page
    assert "| distance" not in page.split("## Claims")[0]  # measured for the claim alone
    assert "0.2900? |" in page and "probably block 3 times 1.5, score: 0.28000" in page
    assert "over prompts" in result.claims[0].test
    value = result.rows[1].values["score"]
    assert (value.n, value.seeds) == (8, ((0, 15),))
    gain, base = result.rows[1].values["gain"], result.rows[0].values
    assert gain.value == pytest.approx(value.value - base["score"].value) and "gain" not in base
    assert gain.high - gain.low < value.high - value.low  # the pairs leave out what prompts share
    assert f"{gain.value:.4f} [" in page
    for name in ("effects", "plane", "importance_map", "prompt_grid", "lines"):
        with Image.open(folder / f"supplement_test_{name}.png") as picture:
            colours = picture.convert("RGB").getcolors(1_000_000)
            assert colours is not None and len(colours) > 20
