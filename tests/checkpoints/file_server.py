"""A web server that misbehaves as told, and a forward proxy: real sockets, nothing pretended."""

from __future__ import annotations

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError


@dataclass(frozen=True)
class Answer:
    """How to answer one request; the default is a good server's way.

    Attributes:
        drop_after: bytes of the body after which the connection is cut.
        ranges: whether Range is understood; ``conditional`` whether If-Range is.
        pause: seconds after every 64 kB.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    drop_after: int | None = None
    ranges: bool = True
    conditional: bool = True
    length: bool = True
    pause: float = 0.0


class Quiet(ThreadingHTTPServer):
    """Serves in a thread for a `with` block."""

    daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):  # clients that leave are part of the tests
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class FileServer(Quiet):
    """Gives ``content`` under every path, answering by ``script`` first, then by ``usual``."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _FileHandler)
        self.content = content
        self.validators: dict[str, str] = {"ETag": '"one"'}
        self.script: list[Answer] = []
        self.usual = Answer()
        self.requests: list[tuple[str, Mapping[str, str]]] = []

    @property
    def ranges(self) -> list[str | None]:
        """The Range of every request so far."""
        return [headers.get("Range") for _, headers in self.requests]


class _FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        answer = server.script.pop(0) if server.script else server.usual
        self.close_connection = True
        body = server.content if answer.body is None else answer.body
        if answer.status >= 400:
            self._send(answer, answer.status, {"Content-Type": "text/plain"}, b"no")
            return
        headers = {"Content-Type": "application/octet-stream", **server.validators}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        same = condition is None or condition in server.validators.values() or not answer.conditional
        if not (wanted and answer.ranges and same):
            self._send(answer, 200, headers, body)
            return
        start = int(wanted[1])
        if start >= len(body):
            self._send(answer, 416, {"Content-Range": f"bytes */{len(body)}"}, b"")
            return
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._send(answer, 206, headers, body[start:])

    def _send(self, answer: Answer, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(body))} if answer.length else {}
        for name, value in {**headers, **length, "Connection": "close", **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        end = len(body) if answer.drop_after is None else answer.drop_after
        for start in range(0, end, 1 << 16):
            self.wfile.write(body[start : min(start + (1 << 16), end)])
            time.sleep(answer.pause)
        if answer.drop_after is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        pass


class Proxy(Quiet):
    """Forwards GET; the host asked for does not matter, everything goes to ``upstream``. Refuses CONNECT."""

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.upstream = upstream
        self.asked: list[str] = []


class _ProxyHandler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = re.sub(r"^http://[^/]+", "", self.path)
        passed = {name: value for name, value in self.headers.items() if name in ("Range", "If-Range")}
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            response = direct.open(urllib.request.Request(self.server.upstream + path, headers=passed))
        except HTTPError as error:
            response = error
        with response:
            self.send_response(response.status)
            for name in ("Content-Type", "Content-Length", "Content-Range", "ETag"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.end_headers()
            self.wfile.write(response.read())

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(403)

    def log_message(self, *arguments: object) -> None:
        pass
