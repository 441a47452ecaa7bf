"""Folders of the Hugging Face hub, through ``huggingface_hub``: put in place whole, remembered by a digest.

That library resumes, verifies against the hub's checksums and honours proxies, HF_TOKEN and HF_ENDPOINT (a
mirror of the hub). What the folder held at its first download is recorded and checked from then on.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from skiptune.checkpoints.fetching.official import OfficialFile
from skiptune.checkpoints.fetching.records import FIRST_USE, Outcome, Record, record_path, remember
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json, digest, file_digest, unwritable

WEIGHTS = (".safetensors", ".bin", ".pt")


def folder_digest(folder: Path) -> tuple[str, int]:
    """One SHA-256 for the names and contents of all files in a folder, and their bytes together."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    return digest(canonical_json(files)), sum(path.stat().st_size for path in paths)


def download_folder(official: OfficialFile, target: Path, mirror: Path | None) -> Outcome:
    """Make sure that the folder is at ``target``, from the hub or from ``mirror / <name>``.

    Raises:
        SkiptuneError: it is not to be had, holds no weights, or differs from its record.
    """
    how, part = "was here", target.with_name(f".{target.name}.part")
    try:
        if not target.exists():
            how, source = ("copied", mirror / official.file) if mirror else ("downloaded", None)
            if source is not None:
                if not source.is_dir():
                    raise SkiptuneError(f"the mirror {mirror} has no folder {official.file}")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(source, part)
            else:
                _snapshot(official, part)
        here = target if target.exists() else part
        if not any(path.suffix in WEIGHTS for path in here.rglob("*")):
            raise SkiptuneError(f"{here} holds no weights: delete it and run this again")
        sha256, size = folder_digest(here)
        record = Record.read(target)
        if record is not None and record.sha256 != sha256:
            raise SkiptuneError(
                f"{here} is not what was recorded of {official.name} on {record.date}: delete it and run "
                f"this again, or delete {record_path(target)} if you trust what is there"
            )
        trust = (
            f"{FIRST_USE}: a branch of the hub can move"
            if record is None
            else f"as recorded on {record.date}"
        )
        origin = str(mirror) if mirror else f"https://huggingface.co/{official.hub}"
        remember(target, size, sha256, origin, trust)
        if here is part:
            part.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return Outcome(official.name, target, size, sha256, how, trust)


def _snapshot(official: OfficialFile, folder: Path) -> None:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SkiptuneError(
            f"{official.name} is a folder of the Hugging Face hub: pip install huggingface_hub, or name a "
            f"mirror folder that holds {official.file}/"
        ) from error
    try:
        hub.snapshot_download(
            official.hub,
            revision=official.revision,
            allow_patterns=list(official.patterns) or None,
            local_dir=folder,
        )
    except Exception as error:  # its many errors have no common base but this
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        terms = ", accept its terms there and set HF_TOKEN" if official.gated else ""
        raise SkiptuneError(f"{official.name}: {reason}; see {official.origin}{terms}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's own notes
