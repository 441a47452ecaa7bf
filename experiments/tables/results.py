"""The measured table: values with intervals, verdicts, provenance, and the JSON form that results/ keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.tables.config import KINDS
from experiments.tables.contract import validate_table_json
from experiments.values import Value
from skiptune.errors import SkiptuneError

FLOOR, FLOOR_ARM = "real vs real (floor)", "floor"
EFFECT = " Effect: "  # in the text of a test, before what the claim's effect is


@dataclass(frozen=True)
class RowResult:
    """One row: flat settings, measured NFE, values, the paper's values, and the hashes of its run records."""

    label: str
    settings: Mapping[str, Any]
    nfe: int | None
    values: Mapping[str, Value]
    paper: Mapping[str, float]
    status: str = "measured"
    reason: str = ""
    record: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimResult:
    """A verdict.

    `effect` with its interval is the deciding number; `test` says what was tested and found, and after
    `EFFECT` what the effect is.
    """

    id: str
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    test: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers were computed. `started` is ISO 8601, `seconds` those of all records, added."""

    commit: str
    packages: Mapping[str, str]
    device: str
    started: str
    seconds: float

    @staticmethod
    def of(records: Sequence[tuple[Mapping[str, Any], float]]) -> Provenance:
        """From the records behind a table: (provenance, seconds) of each.

        All commits, the first start, seconds in total; packages and device of the last. Python is a package.
        """
        last = records[-1][0]
        packages = dict(last["packages"]) | ({"python": last["python"]} if "python" in last else {})
        commits = ", ".join(sorted({where["commit"] for where, _ in records}))
        started = min(where["started"] for where, _ in records)
        return Provenance(commits, packages, last["device"], started, sum(seconds for _, seconds in records))


@dataclass(frozen=True)
class TableResult:
    """A table as measured at one scale; `kind` and `number` as in `TableConfig`."""

    paper: str
    kind: str
    number: int | str
    scale: str
    rows: tuple[RowResult, ...]
    claims: tuple[ClaimResult, ...]
    provenance: Provenance = field(repr=False)

    def row(self, label: str) -> RowResult | None:
        return next((row for row in self.rows if row.label == label), None)

    @property
    def floors(self) -> tuple[RowResult, ...]:
        """Real against real images, one row a kind of them: about what a perfect model would score."""
        return tuple(row for row in self.rows if row.settings.get("arm") == FLOOR_ARM)

    def as_dict(self) -> dict[str, Any]:
        return {
            "paper": self.paper,
            self.kind: self.number,
            "scale": self.scale,
            "rows": [_row_dict(row) for row in self.rows],
            "claims": [dict(vars(claim)) for claim in self.claims],
            "provenance": {**vars(self.provenance), "packages": dict(self.provenance.packages)},
        }

    def to_json(self) -> str:
        """The table's JSON text. Raises SkiptuneError if the result breaks the contract (`contract.py`)."""
        data = self.as_dict()
        validate_table_json(data)
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, source: str = "table JSON") -> TableResult:
        """Reads and checks a table's JSON text; `source` names it in errors."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SkiptuneError(f"{source}: not JSON ({error}); make the table again") from None
        validate_table_json(data, source)
        kind = next(kind for kind in KINDS if kind in data)
        return TableResult(
            paper=data["paper"],
            kind=kind,
            number=data[kind],
            scale=data["scale"],
            rows=tuple(_row(row) for row in data["rows"]),
            claims=tuple(ClaimResult(**claim) for claim in data["claims"]),
            provenance=Provenance(**data["provenance"]),
        )


def floor_row(
    values: Mapping[str, Value],
    record: tuple[str, ...],
    roles: Sequence[str],
    data: str,
    *,
    alone: bool = True,
) -> RowResult:
    """The metrics of real images against each other, where no network is called, of one or more roles.

    `alone`: whether the table has no other floor; else the label names the role, or the data of several.
    """
    label = FLOOR if alone else f"{FLOOR}, {roles[0] if len(roles) == 1 else data}"
    return RowResult(label, {"arm": FLOOR_ARM, "role": ", ".join(roles)}, 0, values, {}, record=record)


def not_run(label: str, settings: Mapping[str, Any], paper: Mapping[str, float], reason: str) -> RowResult:
    """A row without numbers, and why."""
    return RowResult(label, settings, None, {}, paper, status="not run", reason=reason)


def _row_dict(row: RowResult) -> dict[str, Any]:
    values = {key: {**vars(v), "seeds": [list(block) for block in v.seeds]} for key, v in row.values.items()}
    return {
        **vars(row),
        "settings": dict(row.settings),
        "values": values,
        "paper": dict(row.paper),
        "record": list(row.record),
    }


def _row(data: Mapping[str, Any]) -> RowResult:
    values = {
        key: Value(**{**value, "seeds": tuple((first, last) for first, last in value["seeds"])})
        for key, value in data["values"].items()
    }
    return RowResult(**{**data, "values": values, "record": tuple(data["record"])})
