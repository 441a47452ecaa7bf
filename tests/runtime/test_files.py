from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import (
    canonical_json,
    digest,
    file_digest,
    is_shown,
    read_json,
    remove_stale,
    write_atomic,
)


def test_canonical_json_is_one_text_per_value():
    assert canonical_json({"b": [1, 1.0, True, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,1.0,true,null]}'
    assert canonical_json(0.1 + 0.2) == "0.30000000000000004"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, "a.b[1]"),
        ({"a": float("inf")}, "'a'"),
        ({"a": (1, 2)}, "tuple"),
        ({"a": np.float64(1.0)}, "float64"),
        ({"a": {3: 1}}, "key 3 of 'a'"),
        ({"a": Path("x")}, "'a' is a"),
    ],
)
def test_canonical_json_refuses_what_has_no_one_text(value, place):
    with pytest.raises(SkiptuneError) as caught:
        canonical_json(value)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_digests(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert digest("abc") == digest(b"abc") == file_digest(path) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(SkiptuneError, match="absent"):
        file_digest(tmp_path / "absent")


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "new" / "x.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_write_atomic_failure_keeps_the_old_file_and_no_temporary(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(SkiptuneError, match="cannot write .*folder"):
        write_atomic(tmp_path / "folder", "x")  # the name is taken by a folder: the rename fails
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_remove_stale_removes_only_old_temporaries(tmp_path):
    for name in (".a.1-00.tmp", ".b.1-00.tmp", "kept"):
        (tmp_path / name).touch()
    for name in (".a.1-00.tmp", "kept"):
        os.utime(tmp_path / name, (0, 0))
    remove_stale(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".b.1-00.tmp", "kept"}


def test_read_json_errors_name_the_file(tmp_path):
    (tmp_path / "bad.json").write_text('{"a":')
    with pytest.raises(SkiptuneError, match="bad.json is damaged"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(SkiptuneError, match="cannot read .*absent.json"):
        read_json(tmp_path / "absent.json")


def test_a_file_that_shows_late_is_waited_for(tmp_path):
    late = tmp_path / "run" / "record.json"
    assert not is_shown(late, seconds=0.0)
    threading.Timer(0.3, late.touch).start()
    assert is_shown(late) and list(late.parent.iterdir()) == [late]
    (tmp_path / "file").touch()
    with pytest.raises(SkiptuneError, match="cannot write"):
        is_shown(tmp_path / "file" / "record.json")
