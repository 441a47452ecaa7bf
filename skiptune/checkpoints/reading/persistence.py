"""Networks as NVIDIA's snapshots describe them (NVlabs/edm, NVlabs/edm2: torch_utils/persistence.py).

A snapshot pickles each persistent object as a call with one dictionary: type, version, the source text of its
module, class name and instance dictionary. Here the call gives a record of these facts without the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from skiptune.checkpoints.reading.pickle_machine import Refused
from skiptune.errors import SkiptuneError

NETWORK_KEY = "ema"
VERSIONS = range(1, 7)


@dataclass(eq=False)
class ModuleRecord:
    """A torch module that was not built: its class name, and its instance dictionary with nested records."""

    class_name: str
    state: dict[str, Any] = field(default_factory=dict, repr=False)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by official name, in the order of ``Module.state_dict``.

        They are views of the mapped file, not always aligned to their type: copy them into the parameters of
        a network (``load_state_dict`` does) rather than computing with them.

        Raises:
            SkiptuneError: something that is no tensor or module stands where one should.
        """
        return dict(_tensors(self, ""))


@dataclass(eq=False)
class PersistentRecord(ModuleRecord):
    """A persistent object of a snapshot.

    Attributes:
        type: ``class``, the only one there is.
        version: of the persistence format, 6 in all official files.
    """

    type: str = "class"
    version: int = 6

    @property
    def kwargs(self) -> dict[str, Any]:
        """Constructor arguments by name: numbers, text, ``None``, lists and dictionaries.

        Raises:
            SkiptuneError: none recorded, some given by position, or an argument of another kind.
        """
        given = self.state.get("_init_kwargs")
        if not isinstance(given, dict) or self.state.get("_init_args"):
            raise SkiptuneError(f"the record of {self.class_name} does not list its arguments by name")
        return {
            str(name): plain(value, f"argument {name!r} of {self.class_name}")
            for name, value in given.items()
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """Public attributes that are numbers, text or ``None``, such as ``sigma_max``."""
        kinds = (bool, int, float, str, type(None))
        named = {name: value for name, value in self.state.items() if isinstance(name, str)}
        return {
            name: value
            for name, value in named.items()
            if isinstance(value, kinds) and name.isidentifier()
            if not name.startswith("_")
        }


def reconstruct(meta: Any, *surplus: Any) -> PersistentRecord:
    """What ``_reconstruct_persistent_obj(meta)`` stands for here. Raises Refused for another layout."""
    if surplus or not isinstance(meta, dict):
        raise Refused("holds a persistence record that is no dictionary")
    kinds = {"type": str, "version": int, "module_src": str, "class_name": str, "state": dict}
    for name, kind in kinds.items():
        if not isinstance(meta.get(name), kind):
            raise Refused(f"holds a persistence record without a {kind.__name__} as its {name!r}")
    if meta["type"] != "class" or meta["version"] not in VERSIONS:
        raise Refused(f"holds a persistence record of an unknown version, {meta['version']}")
    if not meta["class_name"].isidentifier():
        raise Refused("holds a persistence record whose class name is no name")
    return PersistentRecord(meta["class_name"], meta["state"], meta["type"], meta["version"])


def network_record(checkpoint: Any) -> PersistentRecord:
    """The network of a snapshot as `read_checkpoint` gives it: EDM, EDM2 and Diff-Instruct call it ``ema``.

    Raises:
        SkiptuneError: there is none.
    """
    if isinstance(checkpoint, PersistentRecord):
        return checkpoint
    if not isinstance(checkpoint, Mapping):
        raise SkiptuneError(
            f"a {type(checkpoint).__name__} is no snapshot with a network under {NETWORK_KEY!r}"
        )
    network = checkpoint.get(NETWORK_KEY)
    if not isinstance(network, PersistentRecord):
        keys = ", ".join(repr(key)[:40] for key in list(checkpoint)[:8]) or "nothing"
        raise SkiptuneError(f"no snapshot: there is no network under {NETWORK_KEY!r}, but {keys}")
    return network


def plain(value: Any, place: str) -> Any:
    """A constructor argument with tuples as lists. Raises SkiptuneError, naming the place, for others."""
    if isinstance(value, (list, tuple)):
        return [plain(item, place) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, place) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SkiptuneError(f"{place} is a {type(value).__name__}: expected numbers, text, lists or dictionaries")


def _tensors(module: ModuleRecord, prefix: str) -> Iterator[tuple[str, Tensor]]:
    transient = module.state.get("_non_persistent_buffers_set") or ()
    for group, kind in (("_parameters", Tensor), ("_buffers", Tensor), ("_modules", ModuleRecord)):
        members = module.state.get(group)
        if not isinstance(members, dict):
            raise SkiptuneError(
                f"{prefix!r} of the network, a {module.class_name}, has no {group}: it is no module"
            )
        for name, member in members.items():
            if member is None or (group == "_buffers" and name in transient):
                continue
            if not isinstance(member, kind) or not isinstance(name, str) or "." in name:
                place = f"{prefix}{name}"[:120]
                raise SkiptuneError(
                    f"{place!r} among the {group} of the network is a {type(member).__name__}"
                )
            if isinstance(member, ModuleRecord):
                yield from _tensors(member, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", member
