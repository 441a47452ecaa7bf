"""What was measured for a table: what its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.bench import Bench
from experiments.measurement import Measurement, Result
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.values import Value

SAMPLERS = {
    "heun": "Heun",
    "unipc": "UniPC",
    "euler": "Euler",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "s_pndm": "S-PNDM",
    "f_pndm": "F-PNDM",
    "consistency": "one step",
}


@dataclass(frozen=True)
class Search:
    """A tuned row on the selection seeds: the metric at each value tried and at 1, the best but 1."""

    values: Mapping[float, Value]
    results: tuple[Result, ...]
    selected: float

    @property
    def at_edge(self) -> bool:
        """Whether the best value is the lowest or highest tried beside 1: the optimum may lie further out."""
        tried = [value for value in self.values if value != 1]
        return self.selected in (min(tried), max(tried))


@dataclass(frozen=True)
class Made:
    """Everything behind a table, by row id."""

    config: TableConfig
    scale: Scale
    bench: Bench
    rows: tuple[RowConfig, ...]
    measurements: Mapping[str, Measurement]
    measured: Mapping[str, Result]
    searches: Mapping[str, Search]

    def settings(self, row: RowConfig) -> dict[str, object]:
        """The row's settings, flat, with the selected value filled in."""
        found = self.searches.get(row.id)
        return row.settings(None if found is None else found.selected)


def sampler_title(name: object) -> str:
    return SAMPLERS.get(str(name), str(name))
