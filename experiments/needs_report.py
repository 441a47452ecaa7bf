"""What tables need, in words: a list for this machine, a page of what was not run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.needs import SUSTAINED_TFLOPS, Need, Needs
from experiments.tables.config import PAPERS, TableConfig
from experiments.tables.index import table_folder
from experiments.tables.notes import title
from skiptune.checkpoints.fetching.official import OfficialFile, bytes_text


def needs_list(
    tables: Mapping[str, Needs | str],
    catalogue: Iterable[OfficialFile],
    checkpoints: Path,
    gpu: str | None,
) -> str:
    """One list of it all.

    Args:
        tables: name -> its needs, or what is wrong with its configuration.
        catalogue: what is known of official files.
        gpu: name of the GPU of this machine, if it has one.
    """
    needs = {name: value for name, value in tables.items() if isinstance(value, Needs)}
    files = {file: need for value in needs.values() for file, need in value.files.items()}
    missing = {file for file in files if not (checkpoints / file).exists()}
    packages = sorted({name for value in needs.values() for name in value.packages})
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    lines = ["Tables"]
    for name, value in tables.items():
        lines.append(f"  {name:<38} {_state(value, missing)}")
    total = sum(value.gpu_hours for value in needs.values())
    lines.append(
        f"  in total {sum(value.images for value in needs.values())} images, {total:.1f} GPU-hours at "
        f"{SUSTAINED_TFLOPS:.0f} TFLOP/s sustained (from operation counts, not measured; "
        "rows that tables share are computed once but counted in each)"
    )
    known = {official.file: official for official in catalogue}
    lines += ["", f"Files in {checkpoints}"]
    lines += [f"  {_file(file, need, file in missing, known.get(file))}" for file, need in files.items()]
    made_here = sorted(file for file in missing if files[file].made_here)
    wanted = missing - set(made_here)
    sizes = [known[file].size or known[file].about for file in wanted if file in known]
    unknown = len(wanted) - len([size for size in sizes if size])
    without = f", and {unknown} of unknown size" if unknown else ""
    total_size = bytes_text(sum(size or 0 for size in sizes))
    lines.append(f"  to download: about {total_size}, {len(wanted)} files{without}")
    if made_here:
        lines.append(f"  to be made here, published nowhere: {', '.join(made_here)}")
    broken = [name for name, value in tables.items() if isinstance(value, str)]
    lack = [
        *(f"file {file}" for file in files if file in missing),
        *(f"package {name}" for name in absent),
        *([] if gpu else ["a GPU"]),
        *(f"a sound configuration of {name}" for name in broken),
    ]
    lines += ["", "Packages", f"  {', '.join(packages) or 'none beyond the installation'}"]
    lines += ["", "GPU", f"  {gpu or 'none'}", "", "Missing on this machine"]
    return "\n".join([*lines, *(f"  {item}" for item in lack or ["nothing"])])


def _state(value: Needs | str, missing: set[str]) -> str:
    if isinstance(value, str):
        return f"broken config: {value}"
    count = len(missing & value.files.keys())
    ready = f"{count} of {len(value.files)} files missing" if count else "all files here"
    return f"{value.images:>9} images {value.gpu_hours:>8.1f} GPU-h  {ready}"


def _file(file: str, need: Need, missing: bool, official: OfficialFile | None) -> str:
    state = "missing" if missing else "here"
    if need.made_here:
        return f"{file}: {state}, made here; {need.origin}"
    if official is None:
        return f"{file}: {state}, size unknown, {need.origin}"
    terms = f"{official.licence}{', gated' if official.gated else ''}"
    command = f"python scripts/download.py {official.name}" if official.automatic else "by hand"
    return f"{file}: {state}, {official.bytes_text}, {terms}; {command} ({official.origin})"


def needs_page(
    tables: Mapping[str, tuple[TableConfig, Needs]], catalogue: Iterable[OfficialFile], results: Path
) -> str:
    """Markdown: every table at paper scale with its command and the estimate of its cost, and all files.

    Args:
        tables: by name.
        catalogue: what is known of official files.
        results: a table whose results lie there was run; its cost is in them.
    """
    lines = [
        "# Paper scale: commands, cost and files",
        "",
        "The official files could not be downloaded where this was made, so nothing that is marked *not run* "
        f"has a number. GPU-hours are estimates from operation counts at {SUSTAINED_TFLOPS:.0f} TFLOP/s "
        "sustained, not measured; rows that tables share are computed once but counted in each. "
        "Add `dry_run=true` to see a table's rows, `launcher=slurm rows=each` to divide them over a cluster.",
    ]
    for paper, heading in PAPERS.items():
        lines += ["", f"## {heading}", "", "| table | status | command | images | GPU-hours | files |"]
        lines.append("| --- | --- | --- | ---: | ---: | ---: |")
        for name, (config, needs) in tables.items():
            if config.paper == paper:
                made = (table_folder(results, "paper", paper) / f"{config.name}.json").is_file()
                command = f"python scripts/reproduce.py table={name} scale=paper"
                lines.append(
                    f"| {title(config)} | {'run' if made else 'not run'} | `{command}` | {needs.images:,} "
                    f"| {_hours(needs)} | {len(needs.files)} |"
                )
    total = sum(needs.gpu_hours for _, needs in tables.values())
    lines += ["", f"In total {total:,.0f} GPU-hours.", "", "## Files", ""]
    lines += ["| file | size | licence | where from |", "| --- | --- | --- | --- |"]
    known = {official.file: official for official in catalogue}
    files = {file: need for _, needs in tables.values() for file, need in needs.files.items()}
    return "\n".join([*lines, *(_row(file, need, known.get(file)) for file, need in files.items()), ""])


def _row(file: str, need: Need, official: OfficialFile | None) -> str:
    if need.made_here:
        return f"| {file} | – | – | made here: {need.origin} |"
    if official is None:
        return f"| {file} | unknown | unknown | {need.origin} |"
    terms = f"{official.licence}{', gated' if official.gated else ''}"
    by = f"`python scripts/download.py {official.name}`"
    return f"| {file} | {official.bytes_text} | {terms} | {by if official.automatic else official.origin} |"


def _hours(needs: Needs) -> str:
    if needs.gpu_hours >= 0.05:
        return f"{needs.gpu_hours:,.1f}"
    return "below 0.1" if needs.gpu_hours > 0 else "none" if needs.images == 0 else "no estimate"
