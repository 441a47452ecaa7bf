"""Runs commands in forks of one process that has imported everything once: a start costs nothing.

Reads one JSON object a line, {"script", "arguments", "folder"}; answers with {"code", "out", "err"}.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, arguments: list[str], folder: str) -> dict[str, Any]:
    """What a shell would see of `python scripts/<script> <arguments>` in that folder."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os._exit(child(script, arguments, folder, out, err))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = {}
        for name, file in (("out", out), ("err", err)):
            file.seek(0)
            texts[name] = file.read()
    return {"code": code, **texts}


def child(script: str, arguments: list[str], folder: str, out: IO[str], err: IO[str]) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.chdir(folder)
    sys.argv = [str(ROOT / "scripts" / script), *arguments]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import experiments.registry  # noqa: F401 (everything that takes time to import)
    import experiments.tuning.tune  # noqa: F401
    import scripts.shared.common  # noqa: F401
    import skiptune.evaluation.evaluation  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
