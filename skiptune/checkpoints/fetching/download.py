"""Official files: copied or downloaded, verified, put in place in one step, remembered.

``<file>.download.json`` beside a file says where it came from and its SHA-256. Where the source publishes no
checksum the first download is trusted, and this record is what the file is checked against from then on.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard
from urllib.parse import quote

from skiptune.checkpoints.fetching.hub import download_folder
from skiptune.checkpoints.fetching.official import MAGIC, OfficialFile
from skiptune.checkpoints.fetching.part import Part, open_part
from skiptune.checkpoints.fetching.records import FIRST_USE, Outcome, Record, record_path, remember
from skiptune.checkpoints.fetching.transfer import BLOCK, Patience, Unavailable, fetch
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import file_digest, unreadable


def download(
    official: OfficialFile,
    folder: Path,
    mirror: str | None = None,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Make sure that the file lies verified in ``folder``; one that does is only verified again.

    Args:
        mirror: a folder, or the address of one, that holds the file under the same name; the official
            source is then not asked.
        say: takes a line for each wait for a server.

    Raises:
        SkiptuneError: no address gives it, its bytes are not the expected ones, or they cannot be written.
    """
    target = folder / official.file
    if official.hub is not None:
        if mirror is not None and not _is_folder(mirror):
            raise SkiptuneError(f"{official.name} comes from the hub: its mirror is a folder, or HF_ENDPOINT")
        return download_folder(official, target, Path(mirror) if _is_folder(mirror) else None)
    if target.exists():
        if not target.is_file():
            raise SkiptuneError(f"{target} is in the way of the file {official.name}: move it away")
        sha256, trust = verify(official, target, target, "delete it and run this again")
        if Record.read(target) is None:
            remember(target, target.stat().st_size, sha256, "found here", trust)
        return Outcome(official.name, target, target.stat().st_size, sha256, "was here", trust)
    if not official.urls and mirror is None:
        raise SkiptuneError(f"{official.name}: {by_hand(official, target)}")
    with open_part(target) as part:
        source = _fill(official, target, part, mirror, patience, say)
        try:
            sha256, trust = verify(
                official, part.path, target, f"nothing of what {source} sent is kept; run this again"
            )
        except SkiptuneError:
            part.discard()
            raise
        remember(target, part.length, sha256, source, trust)
        part.become(target)
    how = "copied" if _is_folder(mirror) else "downloaded"
    return Outcome(official.name, target, target.stat().st_size, sha256, how, trust)


def verify(official: OfficialFile, path: Path, target: Path, advice: str) -> tuple[str, str]:
    """SHA-256 of the bytes at ``path`` and why they are believed to be those of ``target``.

    Raises:
        SkiptuneError: they are not; the line ends with ``advice``.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise unreadable(path, error) from error
    if official.size is not None and size != official.size:
        raise SkiptuneError(f"{target} has {size} bytes instead of {official.size}: {advice}")
    if not start.startswith(MAGIC[official.format]):
        raise SkiptuneError(f"{target} is no {official.format} file, it begins with {start!r}: {advice}")
    sha256 = file_digest(path)
    if official.sha256 is not None:
        if not sha256.startswith(official.sha256):
            raise SkiptuneError(f"{target} has sha256 {sha256[:16]} instead of {official.sha256}: {advice}")
        return sha256, "as published"
    if official.md5 is not None:
        with open(path, "rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        if md5 != official.md5:
            raise SkiptuneError(f"{target} has md5 {md5} instead of {official.md5}: {advice}")
        return sha256, "(md5 as published)"
    record = Record.read(target)
    if record is None:
        return sha256, f"{FIRST_USE}: the source publishes no checksum"
    if record.sha256 != sha256:
        raise SkiptuneError(
            f"{target} has sha256 {sha256[:16]}, but {record.sha256[:16]} was recorded on {record.date}: "
            f"{advice}, or delete {record_path(target)} if you trust the new bytes"
        )
    return sha256, f"as recorded on {record.date}"


def by_hand(official: OfficialFile, target: Path) -> str:
    """What a person does to get the file."""
    note = f"{official.note}; " if official.note else ""
    return f"{note}get it with a browser from {official.origin}, place it at {target} and run this again"


def _fill(
    official: OfficialFile,
    target: Path,
    part: Part,
    mirror: str | None,
    patience: Patience,
    say: Callable[[str], None],
) -> str:
    """Complete the part; returns the address that it came from."""
    if mirror is not None and _is_folder(mirror):
        original = Path(mirror).expanduser() / official.file
        _copy(original, part)
        return str(original)
    checked = official.sha256 is not None or official.md5 is not None
    urls = official.urls if mirror is None else (f"{mirror.rstrip('/')}/{quote(official.file)}",)
    for url in urls:
        try:
            fetch(url, part, official.name, official.size, official.about, checked, patience, say)
            return url
        except Unavailable as error:
            reason = error
    page = f" from {official.page}" if official.page else ""
    hint = f"or get it with a browser{page}, place it at {target} and run this again"
    raise SkiptuneError(f"{official.name}: {reason}; {hint}")


def _is_folder(mirror: str | None) -> TypeGuard[str]:
    return mirror is not None and not mirror.startswith(("http://", "https://"))


def _copy(original: Path, part: Part) -> None:
    if not original.is_file():
        raise SkiptuneError(f"the mirror {original.parent} has no {original.name}")
    part.restart()
    part.check_space(original.stat().st_size)
    try:
        with open(original, "rb") as file:
            while block := file.read(BLOCK):
                part.append(block)
    except OSError as error:
        raise unreadable(original, error) from error
