"""Claims without a server: who of many processes on many nodes makes a file of a shared run store.

A claim on ``chunks/00003.safetensors`` is a file ``chunks/.00003.safetensors.<generation>.claim``, made with
O_EXCL, which is atomic on NFS too; no lock of the operating system is needed. Its owner touches it while it
works. A claim is dead if its process is known to be gone (same machine), or was not touched for ``EXPIRY``
seconds by the clock of the file system, on which nodes with differing clocks agree. A dead claim is passed by
making the next generation, which again one process only can. A claim saves work and guards nothing: whoever
is wrongly taken for dead writes the same bits, atomically.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import file_system_now, unwritable
from skiptune.runtime.stopping import check_stop

SUFFIX = ".claim"
HEARTBEAT = 15.0  # seconds between two touches
EXPIRY = (
    120.0  # seconds without a touch after which who cannot be seen to live (another node, stopped) is dead
)
POLL = 1.0  # seconds between two looks at what another process is making


@dataclass(frozen=True)
class Claim:
    """One claim file: what it is for, its generation, who holds it, its last touch (file system's clock)."""

    path: Path
    target: str
    generation: int
    owner: dict[str, Any] = field(compare=False)
    touched: float

    @property
    def is_here(self) -> bool:
        """Whether its process would be visible from this one: same boot, same namespace of processes."""
        mine = this_process()
        return all(mine[key] and self.owner.get(key) == mine[key] for key in ("boot", "namespace"))

    def is_dead(self, now: float) -> bool:
        """``now``: the file system's clock, in seconds."""
        pid = self.owner.get("pid")
        if self.is_here and not (type(pid) is int and is_unclear(pid)):
            return type(pid) is not int or start_of(pid) != self.owner.get("start")
        return now - self.touched > EXPIRY


@cache
def _machine() -> dict[str, str]:
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": platform.node(), "boot": boot, "namespace": namespace}


def this_process() -> dict[str, Any]:
    """What a claim says of its owner: host, boot, namespace of processes, process id and its start."""
    return {**_machine(), "pid": os.getpid(), "start": start_of(os.getpid())}


def start_of(pid: int) -> str:
    """When a process of this machine started, in clock ticks; empty if there is none or it is unknown."""
    fields = _stat(pid)
    return "" if not fields or fields[0] in ("Z", "X") else fields[19]


def is_unclear(pid: int) -> bool:
    """Whether a process of this machine may never go on, or is hidden: then its last touch has to tell.

    Stopped (Ctrl-Z, or suspended by a scheduler in favour of the very job that would wait for it), or another
    user's where ``/proc`` shows everybody his own alone.
    """
    fields = _stat(pid)
    if fields:
        return fields[0] in ("T", "t")
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _stat(pid: int) -> list[str]:
    """What Linux says of a process after its name: state, parent, ...; empty if there is none to be seen."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def claims_in(folder: Path) -> list[Claim]:
    """Every claim in a folder, the latest generation of each target last. Writes nothing."""
    found = []
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except OSError:
        return []
    for name in names:
        target, _, number = name.removesuffix(SUFFIX).removeprefix(".").rpartition(".")
        if not number.isdecimal():
            continue
        path, owner = folder / name, {}
        try:
            touched = path.stat().st_mtime
        except OSError:  # given back meanwhile
            continue
        # Without an owner: not written to its end yet, or never (a full disk, a kill), or just given back.
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(path.read_text())
        found.append(Claim(path, target, int(number), owner if isinstance(owner, dict) else {}, touched))
    return sorted(found, key=lambda claim: (claim.target, claim.generation))


@contextlib.contextmanager
def claiming(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Claim what nobody else is making: yields those of the targets that this process is to make now.

    A target that exists is not claimed. At the end of the block, however it ends, the claims are given back.

    Raises:
        SkiptuneError: the folder cannot be written.
    """
    held: dict[Path, Claim] = {}
    stop = threading.Event()
    try:
        for target in targets:
            if (claim := _take(target)) is not None:
                held[target] = claim
        if held:
            beat = threading.Thread(target=_keep, args=(list(held.values()), stop), daemon=True)
            beat.start()
        yield list(held)
    finally:
        stop.set()
        for claim in held.values():
            _give_back(claim)


def claimed(folders: Iterable[Path]) -> set[Path]:
    """The targets in these folders that living processes are making, this one's included."""
    found = set()
    for folder in folders:
        claims = claims_in(folder)
        now = file_system_now(folder) if claims else 0.0
        found |= {folder / claim.target for claim in claims if not claim.is_dead(now)}
    return found


def give_back_dead(folders: Iterable[Path]) -> None:
    """Remove the claims of dead processes of this machine: other machines would wait until they expire."""
    for folder in folders:
        for claim in claims_in(folder):
            if claim.is_here and claim.is_dead(claim.touched):
                with contextlib.suppress(OSError):
                    claim.path.unlink()


def made_once(target: Path, make: Callable[[], None]) -> None:
    """Call ``make``, which writes ``target``, unless it is there; wait while another process is making it.

    Raises Stopped before ``make`` if this process was told to stop.
    """
    while not target.exists():
        check_stop()
        with claiming([target]) as mine:
            if mine:
                make()
                if not target.exists():
                    raise SkiptuneError(f"{target} was made but is not there: look at the file system")
                return
        time.sleep(POLL)


def _take(target: Path) -> Claim | None:
    folder = target.parent
    if target.exists():
        return None
    before = [claim for claim in claims_in(folder) if claim.target == target.name]
    generation = 0
    if before:
        if not before[-1].is_dead(file_system_now(folder)):
            return None
        generation = before[-1].generation + 1
    claim = _create(target, generation)
    # Whoever made the target meanwhile gave its claim back after that, so it is visible now.
    if claim is not None and target.exists():
        _give_back(claim)
        return None
    return claim


def _create(target: Path, generation: int) -> Claim | None:
    """The claim if no other process was faster."""
    path = target.parent / f".{target.name}.{generation}{SUFFIX}"
    owner = {**this_process(), "token": secrets.token_hex(8)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(owner))
    except FileExistsError:
        return None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise unwritable(path, error) from error
    return Claim(path, target.name, generation, owner, 0.0)


def _keep(held: Sequence[Claim], stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        for claim in held:
            with contextlib.suppress(OSError):  # passed by another process, or the file system is away
                os.utime(claim.path)


def _give_back(claim: Claim) -> None:
    """Remove it and the dead ones that it passed, but nothing that another process has made since."""
    folder = claim.path.parent
    for generation in range(claim.generation):
        with contextlib.suppress(OSError):
            (folder / f".{claim.target}.{generation}{SUFFIX}").unlink()
    with contextlib.suppress(OSError, ValueError):
        if json.loads(claim.path.read_text()).get("token") == claim.owner["token"]:
            claim.path.unlink()
