"""From a checkpoint file to a denoiser, without copying the weights: they stay where the file is mapped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from skiptune.checkpoints.building.arguments import contradiction
from skiptune.checkpoints.building.assemble import assemble, build_empty, innermost, network_class
from skiptune.checkpoints.building.infer import infer
from skiptune.checkpoints.building.infer_guided import infer_autoencoder
from skiptune.checkpoints.building.layouts import CLASSES, Contents, contents, state_dict
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.denoisers.autoencoders import autoencoder_state
from skiptune.denoisers.denoiser import Denoiser
from skiptune.errors import SkiptuneError

# What arguments or tensors of a file may lead to that no official file has.
MISFITS = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError, AssertionError)
HEADER = "denoiser"  # where a safetensors file of ours says how the network is built
PREFIX = "autoencoder."  # of the autoencoder's names in such a file


@dataclass(frozen=True)
class Checkpoint:
    """A loaded file.

    Attributes:
        description: how the denoiser was built.
        assumed: what neither file nor caller said about that.
        left_out: entries of the file that are not of the network, by the beginning of their names.
    """

    denoiser: Denoiser
    family: str
    description: dict[str, Any]
    assumed: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def load_official(
    path: Path | str,
    description: Mapping[str, Any] | None = None,
    autoencoder_path: Path | str | None = None,
    known: Sequence[Mapping[str, Any]] = (),
) -> Denoiser:
    """The denoiser of an official checkpoint or of its converted safetensors file, ready for sampling.

    The weights are float32, except that EDM2's stay as they are stored. They are mapped from the file where
    its format allows it: leave the file in place while the denoiser is used.

    Args:
        description: ``{"class", "kwargs"}`` and optionally ``guidance`` and ``autoencoder``, see
            ``build_denoiser``. Without it, it is what the file says; else the first of ``known`` that has the
            same parameters; else what these tell.
        autoencoder_path: of a latent model whose file does not hold the autoencoder.

    Raises:
        SkiptuneError: a file that cannot be read or holds no such network, in one line.
    """
    return load_checkpoint(path, description, autoencoder_path, known).denoiser


def load_checkpoint(
    path: Path | str,
    description: Mapping[str, Any] | None = None,
    autoencoder_path: Path | str | None = None,
    known: Sequence[Mapping[str, Any]] = (),
) -> Checkpoint:
    """As ``load_official``, with what was found on the way."""
    try:
        found = read_contents(Path(path))
        if autoencoder_path is not None:
            found = replace(found, autoencoder=autoencoder_state(read_checkpoint(Path(autoencoder_path))))
        chosen, assumed = describe(found, description, known)
        denoiser = assemble(chosen, found.state, found.autoencoder)
    except SkiptuneError as error:
        text = str(error)
        raise error if str(path) in text else SkiptuneError(f"{path}: {one_line(text)}") from error
    except MISFITS as error:
        reason = one_line(f"{type(error).__name__}: {error}".partition("\n")[0], 200)
        raise SkiptuneError(f"{path} does not describe a network that can be built ({reason})") from error
    return Checkpoint(denoiser, found.family, chosen, assumed, found.left_out)


def one_line(text: str, most: int = 350) -> str:
    """A message that may quote a file, which can hold anything, as one short printable line."""
    line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]} ..."


def read_contents(path: Path) -> Contents:
    """The contents of a file of any official format, or of one converted or trained by this project.

    Those trained here, whose model is of kind ``desk`` or ``trained``, are read so for ``inspect`` alone.
    """
    checkpoint = read_checkpoint(path)
    header = safetensors_header(path)
    if HEADER not in header:
        return contents(checkpoint)
    outer = ""
    try:
        said = json.loads(header[HEADER])
        if "class" in said:  # trained here: the description alone, names as of the whole denoiser
            outer = "model." * sum(bool(said.get(wrapper)) for wrapper in ("guidance", "autoencoder"))
            said = {"description": said, "assumed": ()}
        description, assumed = said["description"], tuple(said["assumed"])
        family = next(family for family, classes in CLASSES.items() if network_class(description) in classes)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise SkiptuneError(f"its header does not say how to build the network ({error})") from error
    state = state_dict(checkpoint)
    inside = {name[len(PREFIX) :]: state.pop(name) for name in list(state) if name.startswith(PREFIX)}
    state = {name.removeprefix(outer): value for name, value in state.items()}
    return Contents(family, state, inside, description, assumed)


def safetensors_header(path: Path) -> dict[str, str]:
    """The free texts in the header of a safetensors file; empty for another format."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def describe(
    found: Contents, given: Mapping[str, Any] | None, known: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How to build the network of a file, and what was assumed.

    Raises:
        SkiptuneError: ``given`` contradicts the file, or nothing tells.
    """
    if given is not None:
        if network_class(given) not in CLASSES[found.family]:
            raise SkiptuneError(
                f"holds a network of {found.family}, the description says {network_class(given)}"
            )
        certain = found.description if not found.assumed else None
        if certain and (line := contradiction(certain, given)):
            raise SkiptuneError(line)
        return dict(given), ()
    chosen, assumed = found.description, found.assumed
    if chosen is None:
        candidates = [dict(one) for one in known if fits(found, one)]
        if candidates:
            chosen, assumed = candidates[0], like_known(candidates)
    if chosen is None:
        inferred = infer(found.family, network_shapes(found))
        chosen, assumed = inferred.description, inferred.assumed
    if found.autoencoder and "autoencoder" not in chosen:
        size = chosen["kwargs"]["image_shape"][-1]
        first_stage = infer_autoencoder({name: tuple(t.shape) for name, t in found.autoencoder.items()}, size)
        chosen, assumed = {**chosen, "autoencoder": first_stage.description}, (*assumed, *first_stage.assumed)
    if not found.autoencoder:
        chosen = {key: value for key, value in chosen.items() if key != "autoencoder"}
    return chosen, assumed


def like_known(candidates: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What it means that shapes alone chose the first of these descriptions."""
    said = "all that shapes do not tell (noise levels, heads, guidance), as for the known model that they fit"
    more = len(candidates) - 1
    return (said + (f"; {more} more of the known ones fit as well, see --model" if more else ""),)


def network_shapes(found: Contents) -> dict[str, tuple[int, ...]]:
    """Shapes under the names that the official state dict has."""
    whole = found.family in ("EDM", "EDM2")
    return {
        name if whole else name.removeprefix("model."): tuple(value.shape)
        for name, value in found.state.items()
    }


def fits(found: Contents, description: Mapping[str, Any]) -> bool:
    """Whether a network so built has exactly the parameters that the file holds."""
    if network_class(description) not in CLASSES[found.family]:
        return False
    bare = {key: value for key, value in description.items() if key != "autoencoder"}
    shapes = {name: value.shape for name, value in innermost(build_empty(bare)).state_dict().items()}
    return shapes == {name: value.shape for name, value in found.state.items()}
