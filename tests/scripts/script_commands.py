"""Commands as a user runs them, and what they leave in a run store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Two chunks of one network evaluation per image.
TINY = (
    "sampler=euler",
    "sampler.steps=1",
    "seeds={first: 0, count: 2, size: 250}",
    "reference_images=300",
    "tracker=none",
    "workers=1",
)
SWEEP = ("-m", *TINY, "sampler.steps=1,2", "intervention.rho_bottom=0.8,1.0")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    def records(self) -> list[dict[str, Any]]:
        """The lines of stdout, every one of them JSON; speed, which differs from run to run, left out."""
        rows = [json.loads(line) for line in self.out.splitlines()]
        return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]

    def error_line(self) -> str:
        """The one line on stderr of a command that failed because of its user."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith("error: ") and self.err.count("\n") == 1, self.err
        return self.err


@dataclass(frozen=True)
class Shell:
    """Starts commands in one environment."""

    environment: Mapping[str, str]

    def start(self, folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`python <arguments>` in a folder, the leader of its process group."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=dict(self.environment),
            text=True,
            start_new_session=True,
            **(pipes | options),
        )

    def run(self, folder: Path, script: str, *arguments: str, processes: int = 0) -> Done:
        """`python scripts/<script> <arguments>`, or that number of processes of it under torchrun."""
        launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        command = (str(ROOT / "scripts" / script), *arguments)
        process = self.start(folder, *(launcher if processes else ()), *command)
        out, err = process.communicate(timeout=600)
        return Done(process.returncode, out, err)


class Server:
    """Runs commands in forks of one process: a start costs no imports. For commands with one worker."""

    def __init__(self, shell: Shell) -> None:
        script = str(Path(__file__).with_name("command_server.py"))
        pipes = {"stdin": subprocess.PIPE, "stderr": None}
        self.process = shell.start(ROOT, script, **pipes)

    def run(self, folder: Path, script: str, *arguments: str) -> Done:
        """As `Shell.run`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"script": script, "arguments": arguments, "folder": str(folder)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Done(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate("")


@dataclass(frozen=True)
class Sweep:
    """The reference of these tests: four conditions measured by one uninterrupted process."""

    store: Path
    folder: Path
    done: Done

    def record(self, steps: int, rho: float) -> dict[str, Any]:
        """The printed record of a condition; rho = 1 is the one without intervention."""
        (found,) = (
            record
            for record in self.done.records()
            if record["sampler"]["steps"] == steps and record["intervention"].get("rho_bottom", 1.0) == rho
        )
        return found

    def chunks(self, steps: int, rho: float) -> dict[str, bytes]:
        """The chunks of that condition."""
        run = self.record(steps, rho)["run"]
        return {name: content for name, content in chunks(self.store).items() if run in name}


def chunks(store: Path) -> dict[str, bytes]:
    """Every chunk of images sampled into a run store, by its path."""
    found = {}
    for settings in store.glob("runs/*/settings.json"):
        if json.loads(settings.read_text())["kind"] == "sampling":
            for path in settings.parent.glob("chunks/*.safetensors"):
                found[str(path.relative_to(store))] = path.read_bytes()
    return found


def written(store: Path) -> dict[Path, int]:
    """When every file of a store was written."""
    return {path: path.stat().st_mtime_ns for path in store.rglob("*.*") if path.is_file()}
