"""Processes that stop together: whoever fails says so, and who vanishes is missed within a second.

A wish to stop after the chunk at hand reaches all of them through any one, and none ends before the others
have finished theirs: torchrun ends the others with the first.

Every other process keeps a connection to rank 0. The system closes it when a process ends, however that
happens, so a death is seen at once and a busy process is never taken for a dead one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import NoReturn, TextIO

from torch.distributed.distributed_c10d import Store

from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import stop_after_chunk

ARRIVAL = 600.0  # seconds between the arrivals of two processes; until all met, who dies is not missed
_BYE, _FAILED, _STOPPING, _READY = "bye", "failed ", "stopping", "ready"
_INTRODUCTION = 60.0  # seconds for who has connected to say which rank it is; it says so at once
_LAST_WORDS = 15.0  # seconds for a process to stop by itself after another failed


class AnotherFailed(SkiptuneError):
    """Another process failed: what this one was doing is not to blame."""


class Watch:
    """Made in the main thread of every process, ``store`` common to all; ends with ``leave`` or the process.

    When another process fails, AnotherFailed is raised in the main thread, whatever it is doing.
    """

    def __init__(self, store: Store, rank: int, size: int, address: str) -> None:
        self.rank, self.size = rank, size
        self.failure = ""
        self._over = False
        self._ready: set[int] = set()  # those that do nothing any more
        self._lock = threading.Lock()
        signal.signal(signal.SIGUSR1, self._raise)
        peers = _accepted(store, size - 1) if rank == 0 else {0: _connected(store, rank, address)}
        self._peers = {other: peer for other, (peer, _) in peers.items()}
        for other, (peer, lines) in peers.items():
            # A machine that is gone closes nothing.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, option):
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
            threading.Thread(target=self._listen, args=(other, lines), daemon=True).start()

    def fail(self, error: object) -> None:
        """Tell all others that this process stops, and why."""
        self._end(f"rank {self.rank} of {self.size} failed: {error}", heard=False)

    def leave(self) -> None:
        """Tell the others that this process ends because its work is done."""
        self._over = True
        for peer in self._peers.values():
            _say(peer, _BYE)

    def stopping(self) -> None:
        """Tell the others that no further chunk is to be begun."""
        for peer in self._peers.values():
            _say(peer, _STOPPING)

    def part(self) -> None:
        """This process has finished its chunk: wait until all have, then leave together.

        Raises:
            AnotherFailed: another process fails meanwhile.
        """
        if self.rank != 0:  # to which alone the others are connected, and for which they wait
            _say(self._peers[0], _READY)
        while not self._ready.issuperset(self._peers):
            self.check(seconds=0.05)
        self.leave()

    def check(self, seconds: float = 0.0) -> None:
        """Raises AnotherFailed if another process has failed, or does within these seconds."""
        end = time.monotonic() + seconds
        while not self.failure and time.monotonic() < end:
            time.sleep(0.05)
        if self.failure:
            self._raise()

    def _listen(self, other: int, lines: TextIO) -> None:
        line = _STOPPING
        while line in (_STOPPING, _READY):
            line = ""
            with contextlib.suppress(OSError):
                line = lines.readline().rstrip("\n")
            if line == _STOPPING:
                stop_after_chunk()
            elif line in (_READY, _BYE):
                self._ready.add(other)
        if line.startswith(_FAILED):
            self._end(line.removeprefix(_FAILED), heard=True)
        elif line != _BYE:
            self._end(
                f"rank {other} of {self.size} ended without a word (killed, out of memory?)", heard=True
            )

    def _end(self, failure: str, heard: bool) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            if self.rank == 0 or not heard:
                for peer in self._peers.values():
                    _say(peer, _FAILED + " ".join(failure.split()))
            if not heard:
                return
            self.failure = failure
        # For an interpreter that hangs while it goes down, without threads.
        signal.alarm(int(_LAST_WORDS) + 5)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        time.sleep(_LAST_WORDS)  # the main thread may be deep inside a call that no signal ends
        print(f"error: {self._message()}", file=sys.stderr, flush=True)
        os._exit(2)

    def _message(self) -> str:
        return f"{self.failure}; finished chunks are kept, the same command goes on"

    def _raise(self, number: int = 0, frame: FrameType | None = None) -> NoReturn:
        raise AnotherFailed(self._message())


def _accepted(store: Store, count: int) -> dict[int, tuple[socket.socket, TextIO]]:
    """The connections of all other processes to rank 0, by rank. Raises SkiptuneError if one is absent."""
    peers: dict[int, tuple[socket.socket, TextIO]] = {}
    with socket.create_server(("", 0), backlog=count) as server:
        store.set("port", str(server.getsockname()[1]))
        server.settimeout(ARRIVAL)
        while len(peers) < count:
            try:
                peer, _ = server.accept()
            except TimeoutError:
                raise SkiptuneError(f"{count - len(peers)} of {count} other processes did not come") from None
            peer.settimeout(_INTRODUCTION)
            lines = peer.makefile("r", errors="replace")
            try:
                rank = int(lines.readline())
            except (ValueError, OSError):
                rank = 0
            if 0 < rank <= count:
                peer.settimeout(None)
                peers[rank] = peer, lines
            else:  # somebody else, who may also hang up or say nothing
                lines.close()
                peer.close()
    return peers


def _connected(store: Store, rank: int, address: str) -> tuple[socket.socket, TextIO]:
    """The connection to rank 0. Raises SkiptuneError if it does not come."""
    end = time.monotonic() + ARRIVAL
    while not store.check(["port"]):  # not in one long call, which no signal would end
        if time.monotonic() > end:
            raise SkiptuneError("the process of rank 0 did not come")
        time.sleep(0.1)
    peer = socket.create_connection((address, int(store.get("port"))), timeout=60)
    peer.settimeout(None)
    _say(peer, str(rank))
    return peer, peer.makefile("r", errors="replace")


def _say(peer: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):
        peer.sendall(f"{line}\n".encode())
