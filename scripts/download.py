"""Get official files: ``python scripts/download.py NAME ...|all [checkpoints=DIR] [mirror=DIR_or_URL]``.

Without a name it lists what there is. A file that is there and verified is not downloaded again.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "download")  # before the imports that take seconds

from pathlib import Path
from typing import Any

from experiments.config_files import choice_names, choices
from scripts.shared.common import USER_ERROR, command, complain
from skiptune.checkpoints.fetching.download import by_hand, download
from skiptune.checkpoints.fetching.official import OfficialFile, bytes_text
from skiptune.checkpoints.fetching.transfer import Patience
from skiptune.errors import SkiptuneError, did_you_mean


def catalogue() -> dict[str, OfficialFile]:
    """Every file of ``configs/checkpoint``, by name. Raises SkiptuneError if one of them makes no sense."""
    return {name: OfficialFile.of(name, values) for name, values in choices("checkpoint").items()}


@command("download")
def main(config: dict[str, Any]) -> None:
    folder = Path(str(config["checkpoints"]))
    mirror = None if config["mirror"] is None else str(config["mirror"])
    patience = Patience(
        retries=config["retries"],
        backoff=config["backoff"],
        longest=config["longest_wait"],
        timeout=config["timeout"],
    )
    files = [OfficialFile.of(name, values) for name, values in config.get("checkpoint", {}).items()]
    if not files:
        print("\n".join(listing(catalogue(), folder)))
        return
    if len(files) > 1:
        print(f"{len(files)} files, {bytes_text(still_to_get(files, folder))} to download", flush=True)
    failed = False
    for official in files:
        target = folder / official.file
        if len(files) > 1 and not (official.automatic or mirror or target.exists()):
            print(f"{official.name}: left to you: {by_hand(official, target)}", flush=True)
            continue
        try:
            print(download(official, folder, mirror, patience), flush=True)
        except SkiptuneError as error:
            complain(error)
            failed = True
    if failed:
        raise SystemExit(USER_ERROR)


def still_to_get(files: list[OfficialFile], folder: Path) -> int:
    """Bytes, by size or estimate, of the files that are not there and that a program can fetch."""
    missing = [each for each in files if each.automatic and not (folder / each.file).exists()]
    return sum(each.size or each.about or 0 for each in missing)


def listing(files: dict[str, OfficialFile], folder: Path) -> list[str]:
    """A line per file: name, size, licence, where it is."""
    lines = []
    for name, official in files.items():
        here = (folder / official.file).exists()
        state = "here" if here else "missing" if official.automatic else "by hand"
        gated = ", gated" if official.gated else ""
        lines.append(
            f"{name:<32} {official.bytes_text:>14}  {state:<8} {official.system} ({official.licence}{gated})"
        )
    total = bytes_text(still_to_get(list(files.values()), folder))
    return [*lines, f"{len(files)} files, {total} not here yet; get one: python scripts/download.py NAME"]


def normalised(arguments: list[str]) -> list[str]:
    """Names as Hydra's choice of configurations: ``a b mirror=M`` becomes ``checkpoint=[a,b] mirror=M``.

    Raises SkiptuneError for a name that nothing has.
    """
    known, names, others = choice_names("checkpoint"), [], []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        # What follows an option is its value.
        if argument.startswith(("-", "+", "~")) or "=" in argument or before.startswith("-"):
            others.append(argument)
        elif argument == "all":
            names += known
        elif argument in known:
            names.append(argument)
        else:
            guess = did_you_mean(argument, known) or "; run it without a name for the list"
            raise SkiptuneError(f"no official file is called {argument!r}{guess}")
    return [f"checkpoint=[{','.join(dict.fromkeys(names))}]", *others] if names else others


if __name__ == "__main__":
    try:
        sys.argv[1:] = normalised(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
    main()
