"""A dashboard of a paper on the site of Weights & Biases, for users with an account.

``python scripts/dashboard.py paper=skip_tuning entity=ME [project=skiptune] [scale=desk]``; needs the package
wandb-workspaces and `wandb login`. Upload offline runs first: ``make sync``.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__)  # before the imports that take seconds

from experiments.tables.config import PAPERS, SCALES
from experiments.tracking.dashboard import Place, build
from scripts.shared.common import USER_ERROR, complain
from scripts.shared.tables import table_configs, take
from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import one_line
from skiptune.runtime.wandb_tracker import check_key


def main(arguments: list[str]) -> None:
    """Build the dashboard, save it and say where it is."""
    paper, rest = take("paper", arguments, "")
    entity, rest = take("entity", rest, "")
    project, rest = take("project", rest, "skiptune")
    scale, rest = take("scale", rest, SCALES[0])
    if rest:
        raise SkiptuneError(f"unknown argument {rest[0]!r}; there are paper, entity, project and scale")
    if paper not in PAPERS or scale not in SCALES or not entity:
        raise SkiptuneError(
            f"give paper ({', '.join(PAPERS)}), entity (your user or team on the site) and scale "
            f"({', '.join(SCALES)}), e.g. paper=skip_tuning entity=me scale=desk"
        )
    tables = [table for table in table_configs(paper).values() if table.rows_at(scale)]
    report = build(tables, Place(entity, project, scale))
    check_key()
    try:
        report.save()
    except Exception as error:
        raise SkiptuneError(f"the dashboard could not be saved: {one_line(error)}") from error
    print(report.url)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
