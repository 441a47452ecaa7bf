"""What ``--help`` says: the program's own words, and its settings as they are written, comments included.

Nothing heavy is imported here, so that the answer comes at once.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from experiments.config_files import CONFIGS, choice_names

ASKS = ("-h", "--help")
# The blocks of a configuration that are Hydra's.
HYDRA = re.compile(r"^(defaults|hydra):\n(?:[ \t].*\n|\n(?=[ \t]))*", re.M)


def answer_help(words: str | None, *configs: str) -> None:
    """Print the help and end the program, if its arguments ask for it.

    Args:
        words: the program's docstring.
        configs: its files in ``configs``, without the ending.
    """
    if any(argument in ASKS for argument in sys.argv[1:]):
        try:
            print("\n\n".join([(words or "").strip(), *map(usage, configs)]), flush=True)
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


def usage(config: str) -> str:
    """A configuration as it is written, and the groups that it leaves to the user with their choices."""
    text = (CONFIGS / f"{config}.yaml").read_text(encoding="utf-8")
    said = f"Settings, as key=value (configs/{config}.yaml):\n\n{HYDRA.sub('', text).strip()}"
    found = list(groups(yaml.safe_load(text).get("defaults", [])))
    head = "\n\nGroups, as group=choice (what a choice sets: configs/GROUP/CHOICE.yaml):\n\n"
    return said + head + "\n".join(found) if found else said


def groups(defaults: list[Any]) -> Iterator[str]:
    """Every group that a defaults list does not fix, with its default and all choices."""
    for entry in defaults:
        for group, chosen in entry.items() if isinstance(entry, dict) else ():
            if "@" not in group and not group.startswith("override "):
                line = f"{group}: {chosen or 'none'} by default; there are {', '.join(choice_names(group))}"
                yield textwrap.fill(line, 110, subsequent_indent="  ", break_on_hyphens=False)


def asked_of(group: str) -> list[str]:
    """The configurations of a group that the program's arguments name; all if they name none."""
    known = choice_names(group)
    return [f"{group}/{name}" for name in [each for each in known if each in sys.argv[1:]] or known]
