"""Entries of a table written once for several settings."""

from __future__ import annotations

import pytest

from experiments.tables.expand import expanded
from skiptune.errors import SkiptuneError

CLAIM = {
    "id": "C{ranking[mark]}",
    "expand": {"ranking": [{"name": "probe", "mark": ""}, {"name": "ablation", "mark": " (ablation)"}]},
    "parameters": {
        "tests": {
            "desk": [
                {
                    "row": "{ranking[name]}_{step}",
                    "above": "{bound}",
                    "expand": {"step": [0, 1], "bound": [0.5]},
                },
                {"row": "fixed", "above": 0},
            ]
        }
    },
}


def test_a_claim_and_its_tests_expand_together() -> None:
    first, second = expanded(CLAIM, "claims[0]")
    assert (first["id"], second["id"]) == ("C", "C (ablation)")
    assert second["parameters"]["tests"]["desk"] == [
        {"row": "ablation_0", "above": 0.5},  # a number stays one
        {"row": "ablation_1", "above": 0.5},
        {"row": "fixed", "above": 0},
    ]


def test_a_place_alone_becomes_the_value_itself() -> None:
    row = {
        "id": "blk{block[0]}",
        "paper": {"score": "{block[1]}"},
        "expand": {"block": [[0, 0.25], [1, 0.5]]},
    }
    assert expanded(row, "rows[0]") == [
        {"id": "blk0", "paper": {"score": 0.25}},
        {"id": "blk1", "paper": {"score": 0.5}},
    ]


@pytest.mark.parametrize("text", ["{stp}", "step {stp}", "{step[mark]}", "{step[mark]} of 2"])
def test_a_text_that_does_not_fit_is_one_clear_line(text: str) -> None:
    entry = {"tests": [{"row": text, "expand": {"step": [0]}}]}
    with pytest.raises(SkiptuneError, match="does not fit its expand") as error:
        expanded(entry, "claims[0]")
    assert str(error.value).startswith("claims[0]: ") and "\n" not in str(error.value)
