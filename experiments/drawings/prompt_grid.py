"""Images of equal prompts and noise under several interventions (Importance Probe, Figure 1)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from experiments.drawings.image_table import Cell, Line, image_table
from experiments.drawings.made import Made
from experiments.importance_probe.prompt_means import PromptMeans, joined
from experiments.importance_probe.prompt_run import PromptRun
from experiments.importance_probe.prompts import SPLITS
from experiments.tables.config import FigureConfig
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

WRAP = 22  # letters in a line of a prompt


def draw_prompt_grid(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One line per row, one column per prompt; above an image its score.

    The figure's parameters: ``rows``, ids in groups that space separates; ``prompts``, how many; ``split``,
    whose images; ``caption``.

    Raises:
        SkiptuneError: a row without images of prompts, or fewer of them in store.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    groups, count = spec.take("rows", Sequence), spec.take("prompts", int)
    split = SPLITS.index(spec.choice("split", SPLITS))
    caption = spec.take("caption", str)
    spec.finish()
    lines: list[Line] = []
    titles: list[str] = []
    for g, group in enumerate(groups):
        for i, id in enumerate(group):
            condition = made.measurements[id]
            if not isinstance(condition, PromptMeans) or not isinstance(condition.settings, PromptRun):
                raise SkiptuneError(f"figure {figure.name}: row '{id}' makes no images of prompts")
            stored = joined(condition.settings, condition.blocks, made.bench.store)
            images = stored["images"][split :: len(SPLITS)][:count]
            if len(images) < count:
                raise SkiptuneError(
                    f"figure {figure.name}: {len(images)} images of '{id}' are kept, not {count}"
                )
            scores = stored["score"][split :: len(SPLITS)][:count].tolist()
            cells = [Cell(images[k : k + 1], f"{scores[k]:.3f}") for k in range(count)]
            lines.append(Line(made.config.row(id).label, cells, apart=g > 0 and i == 0))
            titles = [textwrap.fill(text, WRAP) for text in condition.prompts.texts[:count]]
    image_table(path, lines, titles, across=1, image_size=144)
    return caption
