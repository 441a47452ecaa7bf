"""Folders of reference data that a test may change."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save_file

from scripts.verify_golden import main

REPOSITORY = Path(__file__).parents[2]
KEPT = REPOSITORY / "tests/data/golden"
CASE = "edm_adm_straddle"


class Folder:
    """A folder of reference data with one manifest that a test may change."""

    def __init__(self, root):
        self.root, self.entries = root, []

    def add(self, entry, **tensors):
        """Write the files of an entry and list it."""
        folder = self.root / entry["case"]
        folder.mkdir()
        for name, values in tensors.items():
            save_file(values, folder / f"{name}.safetensors")
        self.entries.append(entry)
        self.sign(entry)
        return entry

    def sign(self, entry):
        """Record sizes and checksums of the files as they are now."""
        files = sorted((self.root / entry["case"]).iterdir())
        entry["files"] = {
            file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in files
        }

    def check(self, capsys, *options):
        """Exit code and reports by case."""
        (self.root / "manifest.json").write_text(json.dumps({"cases": self.entries}))
        code = main([str(self.root), "--json", *options])
        return code, {report["case"]: report for report in json.loads(capsys.readouterr().out)["cases"]}


def kept_entry(case=CASE):
    return next(e for e in json.loads((KEPT / "manifest.json").read_text())["cases"] if e["case"] == case)
