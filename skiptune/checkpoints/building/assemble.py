"""A described denoiser made of given tensors: built without memory, then these become its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skiptune.checkpoints.building.layouts import State, some
from skiptune.checkpoints.building.own_memory import OwnMemory
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.guidance import Wrapper
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.denoisers.registry import build_denoiser
from skiptune.errors import SkiptuneError

# Networks that compute with their weights in float32 whatever these are stored in; official EDM2 files hold
# float16, and the official code samples from it.
AS_STORED = ("EDM2Precond",)
FILLS = ("normal_", "uniform_", "mul")  # a number times a tensor is also "mul"
MOST_TENSORS = 5_000  # the largest official network has fewer than 2,000
LARGEST = 10**6  # number in a description; of the official ones none is above 16,384


def network_class(description: Mapping[str, Any]) -> Any:
    """The class of the network: that inside of a discrete-time denoiser, or the denoiser's own."""
    network = description.get("kwargs", {}).get("network")
    return description.get("class") if network is None else network.get("class")


class WithoutValues(TorchFunctionMode):
    """Parameters get shapes but no memory; what is computed from given numbers (filters, schedules) is made.

    Like ``torch.device("meta")``, under which the latter would have no values, and where torch imports its
    compiler, for seconds, as soon as a tensor is filled or scaled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left = MOST_TENSORS

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            self.left -= 1
            if self.left < 0:
                raise SkiptuneError(f"its arguments ask for more than {MOST_TENSORS} tensors of parameters")
        target = kwargs["tensor"] if "tensor" in kwargs else args[0] if args else None
        if (
            isinstance(target, Tensor)
            and target.is_meta
            and (getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in FILLS)
        ):
            return target
        if func in (torch.empty, torch.rand, torch.randn) and kwargs.get("device") is None:
            return torch.empty(*args, **{**kwargs, "device": "meta"})
        return func(*args, **kwargs)


def build_empty(description: Mapping[str, Any]) -> Denoiser:
    """The denoiser without memory for its parameters.

    Raises:
        SkiptuneError: as ``build_denoiser``; or numbers that would fill the memory or the day.
    """
    for value in numbers(description):
        if not (abs(value) <= LARGEST or value == float("inf")):  # sigma_max may be that
            raise SkiptuneError(f"its arguments hold the number {value:g}, no network is that large")
    with WithoutValues():
        return build_denoiser(description)


def numbers(value: object) -> Iterator[float]:
    """All numbers in nested plain values."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from numbers(item)


def innermost(denoiser: Denoiser) -> Denoiser:
    """The denoiser inside of guidance and latents, whose names a file has."""
    while isinstance(denoiser, Wrapper):
        denoiser = denoiser.model
    return denoiser


def assemble(description: Mapping[str, Any], state: State, autoencoder: State) -> Denoiser:
    """The described denoiser with these tensors as its parameters, in evaluation mode.

    ``state`` and ``autoencoder`` are emptied, so that no tensor is held twice while its type is changed.
    """
    denoiser = build_empty(description)
    stored = network_class(description) in AS_STORED
    adopt(innermost(denoiser), state, stored)
    if isinstance(denoiser, LatentDenoiser):
        if not autoencoder:
            raise SkiptuneError("holds no autoencoder: give it as the second file, autoencoder_file")
        adopt(denoiser.get_submodule("autoencoder"), autoencoder, False)
    return denoiser.eval().requires_grad_(False)


def adopt(module: nn.Module, state: State, as_stored: bool) -> None:
    """Make the tensors the parameters and buffers of a module that has none yet.

    Raises:
        SkiptuneError: they are not exactly those of the module.
    """
    own = module.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    if line := difference(expected, {name: tuple(value.shape) for name, value in state.items()}):
        raise SkiptuneError(f"its parameters do not fit {type(module).__name__}: {line}")
    adopted = {}
    with OwnMemory() as memory:
        for name in expected:
            value = state.pop(name).detach()
            if value.is_complex() or value.is_floating_point() != own[name].is_floating_point():
                raise SkiptuneError(f"its {name} is {value.dtype}, a network has {own[name].dtype} there")
            if value.is_floating_point() and value.dtype != torch.float32 and not as_stored:
                value = value.to(torch.float32)
            elif value.data_ptr() % value.element_size():  # pickles put numbers where they must not lie
                value = memory.copy(value)
            adopted[name] = value
    module.load_state_dict(adopted, assign=True)
    lost = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if lost:
        raise SkiptuneError(f"{type(module).__name__} computes {some(lost)}, which no file holds")


def difference(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> str:
    """What is missing, surplus and mis-shaped, the first few by name; empty if nothing is."""
    missing = [name for name in expected if name not in given]
    surplus = [name for name in given if name not in expected]
    wrong = [
        f"{name} is {list(given[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    parts = {"missing": missing, "surplus": surplus, "of another shape": wrong}
    return "; ".join(f"{what}: {some(names)}" for what, names in parts.items() if names)
