"""The contract of results/<scale>/<paper>/table_NN.json: exact keys, finite numbers, run records."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables.config import KINDS, NAMED, PAPERS, SCALES
from skiptune.errors import SkiptuneError

STATUSES = ("measured", "not run")
VERDICTS = ("supported", "contradicted", "inconclusive", "not run")
TABLE_KEYS = ("paper", "scale", "rows", "claims", "provenance")  # and one of KINDS with its number
ROW_KEYS = ("label", "settings", "nfe", "values", "paper", "status", "reason", "record")
VALUE_KEYS = ("value", "low", "high", "n", "seeds")
CLAIM_KEYS = ("id", "verdict", "effect", "low", "high", "test")
PROVENANCE_KEYS = ("commit", "packages", "device", "started", "seconds")
HASH = re.compile(r"[0-9a-f]{20}")


def validate_table_json(data: Any, source: str = "table JSON") -> None:
    """Raises SkiptuneError with the place and the fault unless `data` follows the contract."""
    kinds = [kind for kind in KINDS if isinstance(data, Mapping) and kind in data]
    _keys(data, ("paper", *(kinds[:1] or ["table"]), *TABLE_KEYS[1:]), source)
    _need(data["paper"] in PAPERS, source, f"unknown paper {data['paper']!r}")
    number = data[kinds[0]]
    if kinds[0] in NAMED:
        _need(_text(number), source, f"{kinds[0]} must be a letter or a name")
    else:
        _need(_whole(number) and number > 0, source, f"{kinds[0]} must be a positive whole number")
    _need(data["scale"] in SCALES, source, f"scale must be one of {', '.join(SCALES)}")
    _need(_list(data["rows"]) and len(data["rows"]) > 0, source, "rows must be a non-empty list")
    _need(_list(data["claims"]), source, "claims must be a list")
    for i, row in enumerate(data["rows"]):
        _row(row, f"{source}: rows[{i}]", data["scale"])
    labels = [row["label"] for row in data["rows"]]
    _need(len(set(labels)) == len(labels), source, "two rows have one label")
    for i, claim in enumerate(data["claims"]):
        _claim(claim, f"{source}: claims[{i}]")
    provenance = data["provenance"]
    where = f"{source}: provenance"
    _keys(provenance, PROVENANCE_KEYS, where)
    for key in ("commit", "device", "started"):
        _need(_text(provenance[key]), where, f"{key} must be text")
    _need(isinstance(provenance["packages"], Mapping), where, "packages must be a mapping")
    seconds = provenance["seconds"]
    _need(_number(seconds) and seconds >= 0, where, "seconds must be a number, not negative")


def _row(row: Any, where: str, scale: str) -> None:
    _keys(row, ROW_KEYS, where)
    _need(_text(row["label"]), where, "label must be text")
    for key in ("settings", "values", "paper"):
        _need(isinstance(row[key], Mapping), where, f"{key} must be a mapping")
    _need(all(_number(value) for value in row["paper"].values()), where, "paper values must be numbers")
    _need(row["status"] in STATUSES, where, f"status must be one of {', '.join(STATUSES)}")
    _need(_list(row["record"]), where, "record must be a list")
    hashes = all(isinstance(name, str) and HASH.fullmatch(name) for name in row["record"])
    _need(hashes, where, "record holds a wrong run hash")
    if row["status"] == "not run":
        _need(_text(row["reason"]), where, "a row that was not run needs a reason")
        _need(not row["values"], where, "a row that was not run has no values")
        _need(row["nfe"] is None, where, "a row that was not run has no nfe")
        return
    _need(row["reason"] == "", where, "a measured row has no reason")
    _need(len(row["values"]) > 0, where, "a measured row needs values")
    _need(len(row["record"]) > 0, where, "a measured row needs the hash of its run record")
    _need(_whole(row["nfe"]) and row["nfe"] >= 0, where, "nfe must be a whole number, not negative")
    for key, value in row["values"].items():
        _value(value, f"{where}.values.{key}", scale)


def _value(value: Any, where: str, scale: str) -> None:
    _keys(value, VALUE_KEYS, where)
    _need(_number(value["value"]), where, "value must be a finite number")
    _need(_whole(value["n"]) and value["n"] > 0, where, "n must be a positive whole number")
    blocks = value["seeds"]
    _need(_list(blocks) and len(blocks) > 0, where, "seeds must be a non-empty list of [first, last]")
    for block in blocks:
        pair = _list(block) and len(block) == 2 and all(_whole(seed) for seed in block)
        _need(pair, where, "seeds must hold [first, last]")
        _need(0 <= block[0] <= block[1], where, "seeds must have 0 <= first <= last")
    low, high = value["low"], value["high"]
    if low is None and high is None:
        _need(scale != "desk", where, "a desk value needs an interval")
        return
    _need(_number(low) and _number(high), where, "low and high must both be finite numbers, or both null")
    _need(low <= value["value"] <= high, where, "the value lies outside its interval")


def _claim(claim: Any, where: str) -> None:
    _keys(claim, CLAIM_KEYS, where)
    _need(_text(claim["id"]) and _text(claim["test"]), where, "id and test must be text")
    _need(claim["verdict"] in VERDICTS, where, f"verdict must be one of {', '.join(VERDICTS)}")
    for key in ("effect", "low", "high"):
        _need(claim[key] is None or _number(claim[key]), where, f"{key} must be a finite number or null")
    if claim["verdict"] in ("supported", "contradicted"):
        _need(claim["effect"] is not None, where, f"a claim cannot be {claim['verdict']} without an effect")


def _keys(data: Any, keys: Sequence[str], where: str) -> None:
    _need(isinstance(data, Mapping), where, "expected a mapping")
    for key in keys:
        _need(key in data, where, f"missing key '{key}'")
    for key in data:
        _need(key in keys, where, f"unknown key '{key}'")


def _need(true: bool, where: str, fault: str) -> None:
    if not true:
        raise SkiptuneError(f"{where}: {fault}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""
