"""The members of a zip or tar file as views of its bytes: nothing is copied, decompressed or written.

Both are read here because Python's `zipfile` and `tarfile` allocate and loop as the file says; official files
need only plainly stored members.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from skiptune.checkpoints.reading.pickle_machine import Refused

ZIP_HEAD, TAR_MARK = b"PK\x03\x04", b"ustar"
MOST_MEMBERS = 100_000
BLOCK = 512
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
END = struct.Struct("<4s4H2LH")
END64_PLACE = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")


def is_zip(data: memoryview) -> bool:
    """Whether the bytes begin as a zip file does."""
    return bytes(data[:4]) == ZIP_HEAD


def is_tar(data: memoryview) -> bool:
    """Whether the first block is a tar header."""
    return bytes(data[257:262]) == TAR_MARK


def zip_members(data: memoryview) -> dict[str, memoryview]:
    """Stored members of a zip file by name. Raises Refused: damaged, compressed, or with names that clash."""
    try:
        return _collect(_zip_entries(data))
    except (struct.error, UnicodeDecodeError) as error:
        raise Refused("is a damaged zip file") from error


def tar_members(data: memoryview) -> dict[str, memoryview]:
    """Regular members of a tar file by name. Raises Refused if it is damaged."""
    try:
        return _collect(_tar_entries(data))
    except ValueError as error:
        raise Refused("is a damaged tar file") from error


def _collect(entries: Iterator[tuple[str, memoryview]]) -> dict[str, memoryview]:
    members: dict[str, memoryview] = {}
    for name, content in entries:
        # Names are never used as paths; a file that tries has not been written by torch.
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise Refused(f"has an archive member outside of the archive: {name[:100]!r}")
        if name in members:
            raise Refused(f"has two archive members named {name[:100]!r}")
        if len(members) == MOST_MEMBERS:
            raise Refused(f"has more than {MOST_MEMBERS} archive members")
        members[name] = content
    return members


def _piece(data: memoryview, start: int, size: int) -> memoryview:
    if start < 0 or size < 0 or start + size > len(data):
        raise Refused("is a truncated or damaged archive: a member lies beyond its end")
    return data[start : start + size]


def _zip_entries(data: memoryview) -> Iterator[tuple[str, memoryview]]:
    count, size, position = _zip_directory(data)
    directory = _piece(data, position, size)
    at = 0
    for _ in range(count):
        fields = ENTRY.unpack(directory[at : at + ENTRY.size])
        signature, flags, method, packed, unpacked = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_size, extra_size, comment_size, offset = *fields[10:13], fields[16]
        if signature != b"PK\x01\x02":
            raise Refused("is a damaged zip file: its directory is wrong")
        at += ENTRY.size
        name = str(_piece(directory, at, name_size), "utf-8")
        extra = _piece(directory, at + name_size, extra_size)
        at += name_size + extra_size + comment_size
        if FULL32 in (packed, unpacked, offset):
            unpacked, packed, offset = _zip64(extra, unpacked, packed, offset)
        if method != 0 or flags & 1 or packed != unpacked:
            raise Refused("is a zip file with compressed or encrypted members, torch files have neither")
        local = LOCAL.unpack(_piece(data, offset, LOCAL.size))
        if local[0] != ZIP_HEAD:
            raise Refused("is a damaged zip file: a member is not where its directory says")
        yield name, _piece(data, offset + LOCAL.size + local[9] + local[10], unpacked)


def _zip_directory(data: memoryview) -> tuple[int, int, int]:
    """Number of entries, size and position of the directory."""
    tail = max(0, len(data) - END.size - FULL16)
    at = bytes(data[tail:]).rfind(b"PK\x05\x06")
    if at < 0:
        raise Refused("is a truncated zip file: its directory, which stands at the end, is missing")
    end = END.unpack(data[tail + at : tail + at + END.size])
    count, size, position = end[4:7]
    if count == FULL16 or FULL32 in (size, position):
        place = END64_PLACE.unpack(_piece(data, tail + at - END64_PLACE.size, END64_PLACE.size))
        end64 = END64.unpack(_piece(data, place[2], END64.size))
        if place[0] != b"PK\x06\x07" or end64[0] != b"PK\x06\x06":
            raise Refused("is a damaged zip file: its zip64 directory is missing")
        count, size, position = end64[7:10]
    return count, size, position


def _zip64(extra: memoryview, *values: int) -> list[int]:
    """The values, those that are 32 ones replaced in order by the 64-bit ones of the extra field."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<2H", extra[:4])
        if kind == 1:
            large = iter(struct.unpack(f"<{size // 8}Q", extra[4 : 4 + size // 8 * 8]))
            return [next(large, value) if value == FULL32 else value for value in values]
        extra = extra[4 + size :]
    return list(values)


def _tar_entries(data: memoryview) -> Iterator[tuple[str, memoryview]]:
    at = 0
    while at + BLOCK <= len(data):
        header = bytes(data[at : at + BLOCK])
        if not header.strip(b"\0"):
            return
        if sum(header) - sum(header[148:156]) + 8 * 0x20 != _octal(header[148:156]):
            raise Refused("is a damaged tar file: the checksum of a header is wrong")
        size, kind = _octal(header[124:136]), header[156:157]
        content = _piece(data, at + BLOCK, size)
        at += BLOCK + -(-size // BLOCK) * BLOCK
        if kind in (b"0", b"\0"):
            yield header[:100].split(b"\0")[0].decode("utf-8"), content
        elif kind not in (b"x", b"g"):  # dates of members; torch needs none of them
            raise Refused("is a tar file with links or other special members")
    raise Refused("is a truncated tar file")


def _octal(field: bytes) -> int:
    return int(field.strip(b" \0") or b"0", 8)
