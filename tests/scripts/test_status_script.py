"""scripts/status.py: tables by pattern, text and JSON, one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

from script_commands import Server


def test_tables_by_pattern(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "status.py", "table=skip_tuning/0[12]", "json=true")
    assert done.code == 0, done.err
    assert [(one["table"], one["state"]) for one in json.loads(done.out)] == [
        ("skip_tuning/01", "missing"),
        ("skip_tuning/02", "missing"),
    ]
    text = server.run(tmp_path, "status.py", "table=s2dm/1").out
    assert "s2dm/01" in text and "0 of 1 tables done" in text
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_line(server: Server, tmp_path: Path) -> None:
    assert "no table matches 'skip/*'" in server.run(tmp_path, "status.py", "table=skip/*").error_line()
    assert "json is 'yes'" in server.run(tmp_path, "status.py", "json=yes").error_line()
    assert "speed" in server.run(tmp_path, "status.py", "speed=1").error_line()
    said = server.run(tmp_path, "status.py", "+outptus=x").error_line()
    assert "no setting 'outptus', did you mean outputs?" in said
    assert (
        "there is no folder none: outputs is"
        in server.run(tmp_path, "status.py", "outputs=none").error_line()
    )
