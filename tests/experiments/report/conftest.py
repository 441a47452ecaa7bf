"""The report of the committed results, built once; a store that knows one of its records."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from browser import CHROMIUM, Browser  # noqa: E402

from experiments.report.build import build  # noqa: E402
from experiments.report.entries import Entry, entries  # noqa: E402
from experiments.scale import Scale  # noqa: E402
from experiments.status.of_tables import status_of  # noqa: E402
from scripts.shared.tables import table_configs  # noqa: E402
from skiptune.runtime.store import RunStore  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
DEVICE = "a machine of this test"


@dataclass(frozen=True)
class Report:
    """A folder of pages and what they were made of."""

    folder: Path
    entries: list[Entry]
    record: str

    @property
    def made(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.result is not None]

    def page(self, entry: Entry) -> str:
        return (self.folder / entry.page).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, scales: dict[str, Scale]) -> Report:
    store = RunStore(tmp_path_factory.mktemp("store"))
    tables = table_configs()
    found = entries(ROOT / "results", tables, scales["desk"])
    (known,) = (entry.result for entry in found if entry.id == "skip_tuning/02")
    assert known is not None
    record = known.rows[0].record[0]
    write_record(store, record)
    some = {name: tables[name] for name in ("skip_tuning/01", "skip_tuning/02")}
    folder, empty = tmp_path_factory.mktemp("report"), RunStore(tmp_path_factory.mktemp("empty"))
    build(folder, found, {"desk": status_of(some, scales["desk"], empty)}, store)
    return Report(folder, found, record)


def write_record(store: RunStore, id: str) -> None:
    """A record as measuring leaves it, under the id that a table names."""
    folder = store.root / "runs" / id
    folder.mkdir(parents=True)
    provenance = {"commit": "c0ffee", "packages": {"torch": "9.9"}, "device": DEVICE, "started": "then"}
    record = {"provenance": provenance, "seconds": 2.5, "images_per_second": 12.5}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the report was not opened in a browser")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
