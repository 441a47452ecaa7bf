"""Check a folder of golden reference data: python scripts/verify_golden.py DIR [--case NAME ...] [--json].

Exit code 0: nothing failed (unsupported families are listed as such); 1: a case failed; 2: wrong folder.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from experiments.golden.verify import CaseReport, verify
from skiptune.errors import SkiptuneError
from skiptune.runtime.workers import one_thread


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check a folder of golden reference data.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder with manifest.json")
    parser.add_argument(
        "--case", action="append", default=[], metavar="NAME", help="only this case (repeatable)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    reports = []
    try:
        with one_thread():  # networks this small gain nothing from more, and lose much on busy cores
            for report in verify(given.folder, given.case):
                reports.append(report)
                if not given.json:
                    print(("" if len(reports) > 1 else row(*HEADER) + "\n") + as_row(report), flush=True)
    except SkiptuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = {status: sum(r.status == status for r in reports) for status in ("pass", "fail", "unsupported")}
    if given.json:
        print(json.dumps({"cases": [as_json(report) for report in reports], "summary": counts}, indent=2))
    else:
        print("\n" + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return int(counts["fail"] > 0)


HEADER = ("case", "outputs", "largest / tolerance", "tensor", "result")


def row(*cells: str) -> str:
    """One line of the table."""
    return "{:<24} {:>7}  {:>19}  {:<36} {}".format(*cells).rstrip()


def as_row(report: CaseReport) -> str:
    """A report as a line of the table."""
    largest = "-" if report.largest is None else f"{report.largest:.3g}"
    result = f"{report.status}: {report.reason}" if report.reason else report.status
    return row(report.case, str(report.outputs), largest, report.tensor or "-", result)


def as_json(report: CaseReport) -> dict[str, object]:
    """A report as JSON knows it: infinity becomes the text "inf"."""
    values = asdict(report)
    return {**values, "largest": "inf" if report.largest == math.inf else report.largest}


if __name__ == "__main__":
    raise SystemExit(main())
