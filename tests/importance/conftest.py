import sys
from pathlib import Path

import pytest

# Makes `tiny_diffusers` importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interventions"))


@pytest.fixture(scope="session")
def make_prompted():
    """(kind, guidance) -> a denoiser of a prompt around a tiny U-Net of diffusers."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from prompted import prompted

    return lambda *args: prompted(diffusers, *args)
