from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from experiments.tables.contract import validate_table_json
from experiments.tables.results import Provenance, TableResult
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import provenance


def test_json_round_trip(result: TableResult) -> None:
    text = result.to_json()
    assert TableResult.from_json(text) == result
    assert TableResult.from_json(text).to_json() == text


def test_json_has_the_contracts_keys_and_no_others(result: TableResult) -> None:
    data = json.loads(result.to_json())
    assert list(data) == ["paper", "table", "scale", "rows", "claims", "provenance"]
    for row in data["rows"]:
        assert set(row) == {"label", "settings", "nfe", "values", "paper", "status", "reason", "record"}
    assert set(data["rows"][0]["values"]["fid"]) == {"value", "low", "high", "n", "seeds"}
    assert set(data["claims"][0]) == {"id", "verdict", "effect", "low", "high", "test"}
    assert set(data["provenance"]) == {"commit", "packages", "device", "started", "seconds"}
    unmeasured = next(row for row in data["rows"] if row["status"] == "not run")
    assert unmeasured["values"] == {} and unmeasured["reason"] == "no weights" and unmeasured["nfe"] is None


def _row(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["rows"][0].update({key: value})


def _fid(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["rows"][0]["values"]["fid"].update({key: value})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data.pop("scale"), "missing key 'scale'"),
        (lambda data: data.update(title="x"), "unknown key 'title'"),
        (lambda data: data.update(scale="laptop"), "scale must be"),
        (lambda data: data.update(rows=[]), "non-empty"),
        (lambda data: data["rows"].append(data["rows"][0]), "one label"),
        (_row("status", "typed in"), "status must be"),
        (_row("status", "not run"), "needs a reason"),
        (_row("values", {}), "needs values"),
        (_row("record", []), "hash of its run record"),
        (_row("record", ["abc"]), "wrong run hash"),
        (_row("nfe", 9.5), "nfe must be"),
        (_row("paper", {"fid": "35.12"}), "paper values"),
        (_fid("value", float("nan")), "finite"),
        (_fid("low", 1e9), "outside its interval"),
        (_fid("low", None), "both"),
        (lambda data: data["rows"][0]["values"]["fid"].update(low=None, high=None), "needs an interval"),
        (_fid("seeds", [[5, 3]]), "first <= last"),
        (_fid("n", 0), "n must be"),
        (lambda data: data["claims"][0].update(verdict="true"), "verdict must be"),
        (lambda data: data["claims"][0].update(verdict="supported", effect=None), "without an effect"),
        (lambda data: data["provenance"].update(seconds=-1), "seconds"),
    ],
)
def test_contract_refuses(result: TableResult, damage: Callable[[Any], None], words: str) -> None:
    data = json.loads(result.to_json())
    validate_table_json(data)
    damage(data)
    with pytest.raises(SkiptuneError, match=words):
        validate_table_json(data)


def test_a_paper_scale_value_may_lack_an_interval(result: TableResult) -> None:
    data = json.loads(result.to_json()) | {"scale": "paper"}
    data["rows"][0]["values"]["fid"].update(low=None, high=None, n=1, seeds=[[0, 49_999]])
    validate_table_json(data)
    assert TableResult.from_json(json.dumps(data)).rows[0].values["fid"].images == 50_000


def test_damaged_text_is_named() -> None:
    with pytest.raises(SkiptuneError, match="results/x.json: not JSON"):
        TableResult.from_json("{", "results/x.json")


def test_to_json_refuses_what_breaks_the_contract(result: TableResult) -> None:
    with pytest.raises(SkiptuneError, match="unknown paper"):
        dataclasses.replace(result, paper="other").to_json()


def test_provenance_of_this_machine_passes_the_contract(result: TableResult) -> None:
    here = Provenance.of([(provenance(), 1.0), (provenance(), 0.5)])
    assert "torch" in here.packages and "python" in here.packages
    dataclasses.replace(result, provenance=here).to_json()
