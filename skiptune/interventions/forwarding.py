"""Standing in for a module's ``forward``, which hooks cannot keep from running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class StandIn:
    """``forward`` in place of that of ``module`` until ``remove``; ``original`` is the one it replaces.

    ``nn.Module.__call__`` looks up ``forward`` on the instance first, where offloading tools put theirs.
    """

    def __init__(self, module: nn.Module, forward: Callable[..., Any]):
        self.module = module
        self.original: Callable[..., Any] = module.forward
        self.held = module.__dict__.get("forward")
        module.__dict__["forward"] = forward

    def remove(self) -> None:
        """Restore the module."""
        if self.held is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.held
