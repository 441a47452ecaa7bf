"""The conditions that a run store has measured, a line each: a sweep as one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from experiments.measurement import Result
from experiments.wording import override_words, rho_of
from skiptune.runtime.store import RunStore

Line = tuple[dict[str, str], dict[str, Any]]
"""What was set, and what was measured."""


def conditions_csv(store: RunStore) -> str:
    """Condition as overrides, features, NFE, seed blocks, each metric with its 95% interval, record.

    Sorted by condition, numbers in full precision, empty where a condition has no such setting or metric.

    Raises:
        SkiptuneError: a file of the store is damaged.
    """
    runs = [store.load(id) for id in store.ids()]
    records = [(run, run.record()) for run in runs if run.settings.get("kind") == "measurement"]
    lines = [line(run.settings["sampling"], Result.read(run.id, found)) for run, found in records if found]
    settings = dict.fromkeys(key for words, _ in lines for key in words)
    values = dict.fromkeys(key for _, found in lines for key in found)
    lines.sort(key=lambda one: [by_value(one[0].get(key, "")) for key in settings])
    out = io.StringIO()
    writer = csv.DictWriter(out, [*settings, *values], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(words | found for words, found in lines)
    return out.getvalue()


def line(sampling: Mapping[str, Any], result: Result) -> Line:
    """One condition; without an intervention rho is 1."""
    rho = {f"intervention.{name}": str(value) for name, value in rho_of(sampling["intervention"]).items()}
    words = {**override_words(sampling), **rho, "features": sampling["features"]["name"]}
    values: dict[str, Any] = {"record": result.record, "nfe": result.nfe}
    values["seeds"] = " ".join(f"{first}-{last}" for first, last in result.bounds)
    for metric in result.blocks:
        value = result.value(metric)
        values |= {metric: value.value, f"{metric}_low": value.low, f"{metric}_high": value.high}
    return words, values


def by_value(word: str) -> tuple[int, float, str]:
    """Sorts 9 before 19, and numbers before texts."""
    try:
        return 0, float(word), ""
    except ValueError:
        return 1, 0.0, word
