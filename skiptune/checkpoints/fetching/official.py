"""What is known of an official file before it is here: addresses, size, checksums, licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skiptune.errors import SkiptuneError

# How files of a format begin: a web page or an error message saved by mistake does not.
MAGIC = {
    "pickle": (b"\x80",),
    "torch": (b"PK", b"\x80"),
    "npz": (b"PK",),
    "zip": (b"PK",),
    "json": (b"[", b"{"),
    "diffusers": (),
    "safetensors": (),  # begins with the length of its header
}


@dataclass(frozen=True)
class OfficialFile:
    """One file, or one folder of the Hugging Face hub, as its official source offers it.

    Attributes:
        file: its name below the checkpoints folder.
        format: one of ``MAGIC``.
        urls: addresses of the bytes, tried in order; empty where a person must fetch it.
        hub: id of a repository on the Hugging Face hub, which is then taken as a folder; ``revision`` and
            ``patterns`` say what of it.
        size: bytes; ``about`` is an estimate (from the number of parameters) where the size is not known.
        sha256: as published, the leading 8 or more digits where a source publishes only these; None: the
            first download is trusted and recorded.
        md5: as published, where that is all there is.
        gated: the source wants an account and the acceptance of its terms.
        page: where a person finds it.
        note: one line on what is special.
    """

    name: str
    file: str
    format: str
    system: str
    role: str
    licence: str
    gated: bool = False
    urls: tuple[str, ...] = ()
    hub: str | None = None
    revision: str | None = None
    patterns: tuple[str, ...] = ()
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    md5: str | None = None
    page: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> OfficialFile:
        """From the values of ``configs/checkpoint/<name>.yaml``.

        Raises:
            SkiptuneError: a missing, surplus or senseless value.
        """
        lists = {key: tuple(values.get(key) or ()) for key in ("urls", "patterns")}
        try:
            official = cls(name=name, **{**values, **lists})
        except TypeError as error:
            raise SkiptuneError(f"configs/checkpoint/{name}.yaml: {str(error).split('() ')[-1]}") from error
        problems = {
            "file is no plain file name": not re.fullmatch(r"[\w][\w.-]*", str(official.file)),
            f"format is none of {', '.join(MAGIC)}": official.format not in MAGIC,
            "urls must begin with http:// or https://": not all(
                re.match(r"https?://", str(url)) for url in official.urls
            ),
            "it has neither urls nor hub nor page": not (official.automatic or official.page),
            "sha256 is not 8 to 64 hex digits": not _hex(official.sha256, 8, 64),
            "md5 is not 32 hex digits": not _hex(official.md5, 32, 32),
            "size is no number of bytes": not (official.size is None or type(official.size) is int),
        }
        for problem, found in problems.items():
            if found:
                raise SkiptuneError(f"configs/checkpoint/{name}.yaml: {problem}")
        return official

    @property
    def automatic(self) -> bool:
        """Whether a program can fetch it from its source."""
        return bool(self.urls or self.hub)

    @property
    def origin(self) -> str:
        """Where a person would look."""
        hub = f"https://huggingface.co/{self.hub}" if self.hub else None
        return self.page or hub or self.urls[0]

    @property
    def bytes_text(self) -> str:
        """The size for a reader, an estimate marked as such."""
        if self.size is not None:
            return bytes_text(self.size)
        return "size unknown" if self.about is None else f"about {bytes_text(self.about)}"


def bytes_text(count: float) -> str:
    """Bytes as GB, MB or kB (powers of 1000)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _hex(value: str | None, least: int, most: int) -> bool:
    return value is None or bool(re.fullmatch(rf"[0-9a-f]{{{least},{most}}}", str(value)))
