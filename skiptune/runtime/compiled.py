"""The blocks of a network compiled, and interventions left outside of what is compiled.

Hooks that come and go are what compiled networks overlook: torch looks at hooks when it compiles, not at
every call. So what is compiled is the ``forward`` of single blocks, which their own hooks surround, and a
block in whose inside something is hooked or replaced runs as written as long as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import SkipSite, find_skip_sites

VERSIONS_PER_BLOCK = 8  # sizes of a batch, precisions, modes of autograd; torch's own limit for one function
TRANSFORMER = "BasicTransformerBlock"  # in all programs descended from CompVis'


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Compile, in place, transformer blocks and blocks of the kinds that receive skips, at their first call.

    The rest of the network stays as it is. Results differ within rounding. Every new size of a batch is
    compiled anew.

    Args:
        backend: one of torch's.

    Raises:
        SkiptuneError: a network of no known family.
    """
    modules = dict(network.named_modules())
    kinds = {type(modules[receiving_block(site)]) for site in find_skip_sites(network)}
    kinds |= {type(module) for module in modules.values() if type(module).__name__ == TRANSFORMER}
    found = [module for module in modules.values() if type(module) in kinds]
    inner = {id(module) for block in found for module in block.modules() if module is not block}
    blocks = [block for block in found if id(block) not in inner]
    # Blocks of a kind share one function, and all its versions count together.
    limit = VERSIONS_PER_BLOCK * len(blocks)
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, limit)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, limit)
    for block in blocks:
        block.__dict__["forward"] = CompiledForward(block, backend)


def receiving_block(site: SkipSite) -> str:
    """Path of the block that receives the skip; a U-ViT's takes it in a layer of its own."""
    layer = next(site.block.children(), None) is None
    return site.name.rpartition(".")[0] if layer else site.name


class CompiledForward:
    """``forward`` of a block, compiled unless something acts inside of it."""

    def __init__(self, block: nn.Module, backend: str):
        self.inside = [(module, forward_of(module)) for module in block.modules() if module is not block]
        self.plain: Callable[..., Any] = block.forward
        self.compiled = torch.compile(self.plain, dynamic=False, backend=backend)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises SkiptuneError where compiling is not possible, such as without a C++ compiler."""
        if self.touched:
            return self.plain(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except torch._dynamo.exc.ShortenTraceback as error:  # what all errors of compiling have in common
            cause = getattr(error, "inner_exception", error)
            reason = str(cause).strip().partition("\n")[0]
            raise SkiptuneError(
                f"the network cannot be compiled here ({reason}); give compile=false"
            ) from error

    @property
    def touched(self) -> bool:
        """Whether something inside of the block is hooked or replaced."""
        return any(has_hooks(module) or forward_of(module) is not own for module, own in self.inside)

    def __reduce__(self) -> NoReturn:
        """A copy would go on computing with the weights of this network. Raises SkiptuneError."""
        raise SkiptuneError("a compiled network cannot be copied: copy it, then compile its blocks")


def has_hooks(module: nn.Module) -> bool:
    kinds = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    return any(map(len, kinds))


def forward_of(module: nn.Module) -> Any:
    """What stands in for the ``forward`` of the module's class."""
    return module.__dict__.get("forward")
