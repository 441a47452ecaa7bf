"""A script named like a module of the standard library, as inspect.py is, hides it from no other script."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from script_commands import ROOT, TINY, Shell

SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_path_is_set_before_other_imports(path: Path) -> None:
    """Right after the imports of os and sys, word for word as in the other scripts."""
    docstring, future, *start = ast.parse(path.read_text()).body[:6]
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(future) == "from __future__ import annotations"
    assert "\n".join(map(ast.unparse, start)) == (
        "import os\n"
        "import sys\n"
        "here = os.path.dirname(os.path.realpath(__file__))\n"
        "if os.path.realpath(sys.path[0]) == here:\n"
        "    sys.path[0] = os.path.dirname(here)"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This checkout, but every import of scripts/inspect.py leaves a mark."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("skiptune", "experiments", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    mark = tmp_path / "imported"
    (tmp_path / "scripts/inspect.py").write_text(f"open({str(mark)!r}, 'a').close()\nraise ImportError\n")
    return tmp_path


@pytest.mark.parametrize("processes", [0, 2])
def test_workers_and_torchrun(shell: Shell, checkout: Path, processes: int) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    settings = (*TINY, "workers=1" if processes else "workers=2", "sampler.steps=1")
    command = (str(checkout / "scripts/measure.py"), *settings)
    process = shell.start(checkout, *(launcher if processes else ()), *command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("\n") == 1 and not (checkout / "imported").exists()
