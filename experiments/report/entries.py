"""What the report is made of: every configured table, with its result where there is one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from experiments.roles import role_descriptions
from experiments.scale import Scale
from experiments.tables.config import ClaimConfig, TableConfig
from experiments.tables.index import natural, table_folder
from experiments.tables.notes import Roles
from experiments.tables.results import ClaimResult, TableResult
from skiptune.errors import SkiptuneError

FIGURE = re.compile(r"^!\[(.*)\]\(([^()]+)\)$", re.M)


@dataclass(frozen=True)
class Picture:
    """A figure beside a table; ``name``: of its copy in the report, ``size``: width and height in pixels."""

    source: Path
    name: str
    caption: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A table at one scale. Without a result it was not made yet, and has no page.

    Attributes:
        id: as ``table=`` takes it, such as ``skip_tuning/02``.
    """

    id: str
    scale: str
    config: TableConfig
    result: TableResult | None = None
    roles: Roles | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def page(self) -> str:
        """File name of its page."""
        return f"{self.scale}-{self.config.paper}-{self.config.name}.html"


@dataclass(frozen=True)
class Finding:
    """A claim as one table has it; ``result`` is None while that table is not made."""

    claim: ClaimConfig
    entry: Entry
    result: ClaimResult | None

    @property
    def verdict(self) -> str:
        return "not run" if self.result is None else self.result.verdict


def entries(results: Path, tables: Mapping[str, TableConfig], scale: Scale) -> list[Entry]:
    """All tables at a scale, in their order, with what ``results`` holds of them.

    Raises:
        SkiptuneError: a table's JSON is damaged, or a figure that its text shows is missing.
    """
    found = []
    for id, config in tables.items():
        file = table_folder(results, scale.name, config.paper) / f"{config.name}.json"
        if not file.is_file():
            found.append(Entry(id, scale.name, config))
            continue
        result = TableResult.from_json(file.read_text(encoding="utf-8"), str(file))
        roles = role_descriptions(config.rows_at(scale.name), scale)
        found.append(Entry(id, scale.name, config, result, roles, pictures(file.with_suffix(".md"))))
    return found


def pictures(page: Path) -> tuple[Picture, ...]:
    """The figures that a table's Markdown shows, with their captions.

    Raises:
        SkiptuneError: a figure is missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = []
    for caption, name in FIGURE.findall(text):
        source = page.with_name(name)
        if not source.is_file():
            raise SkiptuneError(f"{page} shows {name}, which is missing: make the table again")
        scale, paper = page.parts[-3:-1]
        with Image.open(source) as image:
            found.append(Picture(source, f"figures/{scale}-{paper}-{name}", caption, image.size))
    return tuple(found)


def findings(some: Sequence[Entry]) -> dict[tuple[str, str], list[Finding]]:
    """What tables find of every claim, by its id and statement, in natural order: ST-C2 before ST-C10."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for entry in some:
        judged = {} if entry.result is None else {claim.id: claim for claim in entry.result.claims}
        for claim in entry.config.claims:
            found.setdefault((claim.id, claim.statement), []).append(
                Finding(claim, entry, judged.get(claim.id))
            )
    return dict(sorted(found.items(), key=lambda item: natural(item[0][0])))
