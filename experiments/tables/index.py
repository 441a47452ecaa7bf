"""The index of all that was made below results/."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.tables.config import KINDS, PAPERS, SCALES
from experiments.tables.contract import VERDICTS
from experiments.tables.results import EFFECT, ClaimResult, TableResult

HEAD = ("| table | verdicts | rows measured | date |", "| --- | --- | ---: | --- |")


def table_folder(results: Path, scale: str, paper: str) -> Path:
    """Where the files of a paper's tables live: results/<scale>/<paper>."""
    return results / scale / paper


@dataclass(frozen=True)
class Page:
    """A table that was made: its heading with title, the address of its text from the index."""

    heading: str
    link: str
    result: TableResult


def render_index(results: Path) -> str:
    """Markdown index of all that was made below `results`; depends on the content of the files only."""
    lines = [
        "# Results",
        "",
        "Every number here comes from a stored run record whose hash is in the table's JSON. Desk tables ask "
        "whether a claim holds on small models; their metrics are not comparable in value with a paper's. "
        "Intervals are over images or prompts for the networks at hand, each the product of one training, "
        "unless a table says that it has several. Behind a verdict is the effect that decides it with its "
        "95% interval, where there is one: if inconclusive, it is as narrow as the samples here allow.",
    ]
    for scale in SCALES:
        made = {paper: pages(results, scale, paper) for paper in PAPERS}
        if not any(made.values()):
            lines += ["", f"At {scale} scale nothing was run yet, of any paper{_plan(results, scale)}."]
        for paper, some in made.items():
            if some:
                lines += ["", f"## {PAPERS[paper]}, {scale} scale", "", *HEAD]
                lines += [_line(page) for page in some]
                lines += _joint_lines(some)
    return "\n".join([*lines, ""])


def _plan(results: Path, scale: str) -> str:
    page = results / scale / "README.md"
    return f": [commands, cost and files]({page.relative_to(results).as_posix()})" if page.is_file() else ""


def pages(results: Path, scale: str, paper: str) -> list[Page]:
    """What was made of a paper, in the order of its tables and figures."""
    folder = table_folder(results, scale, paper)
    found = []
    for file in (file for kind in KINDS for file in sorted(folder.glob(f"{kind}_*.json"))):
        result = TableResult.from_json(file.read_text(encoding="utf-8"), str(file))
        page = file.with_suffix(".md")
        first = page.read_text(encoding="utf-8").partition("\n")[0] if page.is_file() else file.stem
        found.append(Page(first.removeprefix("# "), page.relative_to(results).as_posix(), result))
    return found


def _line(page: Page) -> str:
    result = page.result
    verdicts = "; ".join(_verdict(claim) for claim in result.claims) or "no claim"
    measured = sum(row.status == "measured" for row in result.rows)
    date = result.provenance.started[:10]
    return f"| [{page.heading}]({page.link}) | {verdicts} | {measured} of {len(result.rows)} | {date} |"


def _verdict(claim: ClaimResult) -> str:
    """The verdict with its effect and what the test says first, so that "supported" cannot stand alone."""
    if claim.effect is None:
        return f"{claim.id} {claim.verdict}"
    interval = "" if claim.low is None else f" [{claim.low:.4g}, {claim.high:.4g}]"
    what = claim.test.partition(EFFECT)[2].removesuffix(".") or "effect"
    said = claim.test.partition(". Ratio")[0] + "; weakest effect" if ". Ratio" in claim.test else what
    return f"{claim.id} {claim.verdict}: {said} {claim.effect:.4g}{interval}".replace("|", "\\|")


def _joint_lines(some: Sequence[Page]) -> list[str]:
    """Of every claim that several tables test, all verdicts in one line."""
    found: dict[str, dict[str, list[Page]]] = {}
    for page in some:
        for claim in page.result.claims:
            found.setdefault(claim.id, {}).setdefault(claim.verdict, []).append(page)
    several = {id: by for id, by in found.items() if sum(map(len, by.values())) > 1}
    if not several:
        return []
    lines = [_joint_line(id, several[id]) for id in sorted(several, key=natural)]
    return ["", "Claims that several tables test:", "", *lines]


def _joint_line(id: str, by_verdict: Mapping[str, Sequence[Page]]) -> str:
    said = [
        f"{verdict} ({'; '.join(f'[{page.heading}]({page.link})' for page in by_verdict[verdict])})"
        for verdict in VERDICTS
        if verdict in by_verdict
    ]
    return f"- {id}: {', '.join(said)}"


def natural(text: str) -> list[tuple[bool, int, str]]:
    """A sorting key that compares the numbers in a text as numbers."""
    parts = re.findall(r"\d+|\D+", text)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
