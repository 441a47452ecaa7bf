"""What a checkpoint is: ``python scripts/inspect.py FILE [--autoencoder FILE] [--convert OUT.safetensors]``.

FILE has any of the official formats (see README), or is a folder of the diffusers library. Nothing in it is
executed. With ``--convert`` the network is also written as safetensors, with its description in the header
and, beside it, in a small YAML file: with the one in ``checkpoints``, the other in ``configs/model``, it is
a model like the official ones.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else this very file would hide the standard library's inspect
    sys.path[0] = os.path.dirname(here)

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config_files import Config, choices
from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.diffusers_folder import is_diffusers_folder, load_port, report_folder
from skiptune.checkpoints.building.load import Checkpoint, load_checkpoint
from skiptune.checkpoints.building.report import report
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import file_digest, write_atomic

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("file", type=Path, help="checkpoint file, or folder of the diffusers library")
    parser.add_argument("--autoencoder", type=Path, help="second file of a latent model (U-ViT)")
    parser.add_argument("--model", help="a name in configs/model: check the file against that description")
    parser.add_argument("--convert", type=Path, metavar="OUT.safetensors", help="write the network there")
    options = parser.parse_args(arguments)
    if not options.file.exists():
        raise SkiptuneError(f"{options.file} does not exist")
    if options.file.is_dir():
        if not is_diffusers_folder(options.file):
            raise SkiptuneError(
                f"{options.file} is a folder without a config.json or model_index.json of diffusers"
            )
        print("\n".join(report_folder(options.file)))
        if options.convert:
            write_converted(load_port(options.file), options, {"dataset": "imagenet64", "rounding": "down"})
        return
    models = official_models()
    known = {name: model["denoiser"] for name, model in models.items()}
    if options.model is not None and options.model not in known:
        raise SkiptuneError(f"no model {options.model!r} in configs/model; there are {', '.join(known)}")
    description = known.get(options.model)
    checkpoint = load_checkpoint(options.file, description, options.autoencoder, list(known.values()))
    print(f"file: {options.file}, {options.file.stat().st_size:,} bytes")
    print(f"format: {file_format(options.file)}")
    print(f"sha256: {file_digest(options.file)}")
    print("\n".join(report(checkpoint)))
    same = [name for name, one in known.items() if one["kwargs"] == checkpoint.description["kwargs"]]
    if same:
        print(f"same network as in configs/model: {', '.join(same)}")
    if options.convert:
        like = models[same[0]] if same else {"dataset": "unknown"}
        write_converted(
            checkpoint, options, {key: like[key] for key in ("dataset", "rounding") if key in like}
        )


def write_converted(checkpoint: Checkpoint, options: argparse.Namespace, like: dict[str, Any]) -> None:
    """The safetensors file and its model configuration."""
    sha256 = convert(checkpoint, options.convert)
    settings = options.convert.with_suffix(".yaml")
    write_atomic(settings, model_yaml(checkpoint, options, sha256, like))
    print(f"written: {options.convert} (sha256 {sha256}) and {settings}")
    print(f"move them to checkpoints/ and configs/model/, and it is model={options.convert.stem}")


def official_models() -> dict[str, Config]:
    """The configurations of the official models, by name."""
    return {name: model for name, model in choices("model").items() if model.get("kind") == "official"}


def file_format(path: Path) -> str:
    """The container, from its first bytes."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "torch (zip)"
    if head[257:262] == b"ustar":
        return "torch (tar, before 0.1.10)"
    if head[8:9] == b"{":
        return "safetensors"
    # A torch file of before version 1.6 is a pickle of this number, then further pickles and bytes.
    return "torch (before 1.6)" if b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." in head[:16] else "pickle"


def model_yaml(checkpoint: Checkpoint, options: argparse.Namespace, sha256: str, like: Config) -> str:
    """A model configuration for the converted file, with the data set and rounding of the one it is like."""
    name = options.convert.stem
    prompts = " prompts=TEXT" if checkpoint.description["class"] == "TextToImage" else ""
    values = {
        "name": name,
        "kind": "official",
        **like,
        "file": options.convert.name,
        "url": f"made from {options.file.name} by scripts/inspect.py --convert",
        "sha256": sha256,
        "denoiser": checkpoint.description,
    }
    head = [
        f"# What: {options.file.name}, converted to safetensors.",
        "# Expected: the numbers of the file it was made from.  Hardware: GPU.  Time: not measured.",
        f"# Command: python scripts/sample.py model={name}{prompts}",
        *(f"# Assumed: {line}" for line in checkpoint.assumed),
    ]
    return "\n".join(head) + "\n" + yaml.safe_dump(values, sort_keys=False)


if __name__ == "__main__":
    try:
        main()
    except (SkiptuneError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
