"""As much of a Hugging Face hub as huggingface_hub asks for a snapshot, on a real socket."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler

from file_server import Quiet

COMMIT = "a" * 40


class Hub(Quiet):
    """Gives the same files under every repository name."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.files = files


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        files, headers = self.server.files, {"X-Repo-Commit": COMMIT}
        if "/tree/" in self.path:
            content = json.dumps([entry(name, files[name]) for name in files]).encode()
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in files]
            content = json.dumps({"id": "someone/sd", "sha": COMMIT, "siblings": siblings}).encode()
        else:
            content = files[self.path.split(f"/resolve/{COMMIT}/", 1)[1]]
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


def entry(name: str, content: bytes) -> dict[str, object]:
    """A file of the tree; weights are kept as the hub keeps large files."""
    found = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 100}
    return found
