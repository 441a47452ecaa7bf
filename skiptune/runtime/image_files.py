"""Images as PNG files, named by their seeds: to be looked at, and for other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from skiptune.data.folder import LABELS
from skiptune.data.images import to_uint8
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import read_json, unreadable, write_atomic
from skiptune.runtime.generation import Generation, not_finite, sample_images
from skiptune.runtime.memory import saying_what_fits
from skiptune.runtime.precision import in_precision
from skiptune.runtime.prompted import UNGUIDED, Guidance, prompted_model
from skiptune.runtime.provenance import provenance
from skiptune.samplers import make_sampler

RECORD, PROMPTS = "sampling.json", "prompts.json"
CLASS, NFE, PROMPT = "class", "nfe", "prompt"  # texts of the PNG files


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The images of some seeds in a folder, ``000012.png`` for seed 12, and what they were made with.

    Attributes:
        class_label: of every image of a network with classes; None: drawn from its seed.
        prompts: of a text-to-image model; the image of seed ``i`` has number ``i`` modulo their number.
    """

    generation: Generation
    seeds: tuple[int, ...]
    folder: Path
    class_label: int | None = None
    prompts: tuple[str, ...] = ()
    guidance: Guidance = UNGUIDED

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the image of a seed, as plain values. Raises SkiptuneError as ``Generation``."""
        more: dict[str, Any] = {} if self.class_label is None else {"class_label": self.class_label}
        if self.prompts:
            more = {"prompts": list(self.prompts), "guidance": self.guidance.identity}
        return {**self.generation.identity, **more}

    def path(self, seed: int) -> Path:
        return self.folder / f"{seed:06d}.png"

    def prompt(self, seed: int) -> str:
        return self.prompts[seed % len(self.prompts)]

    def begin(self) -> None:
        """Write the record, unless it is there.

        Raises:
            SkiptuneError: the folder holds images that were made otherwise.
        """
        record = self.folder / RECORD
        if not record.exists():
            made = {"made_with": self.identity, "provenance": provenance(self.generation.device)}
            write_atomic(record, json.dumps(made, indent=1) + "\n")
            return
        found, own = read_json(record).get("made_with"), json.loads(json.dumps(self.identity))
        if found != own:
            keys = [key for key in {**(found or {}), **own} if (found or {}).get(key) != own.get(key)]
            raise SkiptuneError(
                f"{self.folder} holds images with another {', '.join(keys)}; choose another folder"
            )

    def batches(self) -> list[ImageBatch]:
        """What goes through the network together, ``micro_batch`` seeds in order: tasks for workers."""
        size = self.generation.micro_batch
        return [ImageBatch(self, self.seeds[i : i + size]) for i in range(0, len(self.seeds), size)]

    def finish(self) -> None:
        """Write classes (``dataset.json``, as EDM's data sets have it) or prompts of all images there are."""
        names = sorted(path.name for path in self.folder.glob("*.png") if path.stem.isdecimal())
        if self.prompts:
            prompts = {name: self.prompt(int(Path(name).stem)) for name in names}
            write_atomic(self.folder / PROMPTS, json.dumps(prompts, indent=0) + "\n")
        texts = {name: text(self.folder / name) for name in names}
        if all(CLASS in about for about in texts.values()):
            labels = [[name, int(about[CLASS])] for name, about in texts.items()]
            write_atomic(self.folder / LABELS, json.dumps({"labels": labels}) + "\n")


@dataclass(frozen=True)
class ImageBatch:
    """The images of one batch of seeds. Called, it writes those that are not there."""

    files: ImageFiles
    seeds: tuple[int, ...]

    @property
    def absent(self) -> tuple[int, ...]:
        """Those of the seeds whose images are not there."""
        return tuple(seed for seed in self.seeds if not self.files.path(seed).exists())

    def __call__(self) -> None:
        """Makes all of them, whose bits depend on their company.

        Raises:
            SkiptuneError: NaN or infinity in an image, out of memory, a folder that cannot be written.
        """
        files, made = self.files, self.files.generation
        with saying_what_fits(made.micro_batch, made.device), in_precision(made.precision, made.device):
            x, labels, nfe = self.images()
        if (error := not_finite(x, self.seeds, made.intervention)) is not None:
            raise error
        pixels = to_uint8(x, made.model.rounding).cpu()
        for seed in self.absent:
            row = self.seeds.index(seed)
            about = {NFE: str(nfe)}
            if labels is not None:
                about[CLASS] = str(int(labels[row]))
            if files.prompts:
                about[PROMPT] = files.prompt(seed)
            write_atomic(files.path(seed), png(pixels[row], about))

    @torch.inference_mode()
    def images(self) -> tuple[Tensor, Tensor | None, int]:
        """Float images ``[N, C, H, W]``, their classes ``[N]`` if there are any, network evaluations."""
        files, made = self.files, self.files.generation
        sampler = make_sampler(**made.sampler)
        if not files.prompts:
            ((x, nfe),), labels = sample_images(
                made.network, sampler, [made.intervention], self.seeds, made.noise_device, files.class_label
            )
            return x, labels, nfe
        model = prompted_model(made.model, made.device, files.prompts, files.guidance, made.compile)
        denoiser = model.of([seed % len(files.prompts) for seed in self.seeds])
        ((x, nfe),), _ = sample_images(denoiser, sampler, [made.intervention], self.seeds, made.noise_device)
        return model.decode(x), None, nfe


def png(image: Tensor, about: dict[str, str]) -> bytes:
    """uint8 ``[C, H, W]`` with 1 or 3 channels as the bytes of a PNG file with these texts."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    info = PngInfo()
    for key, value in about.items():
        info.add_itxt(key, value)
    out = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def text(path: Path) -> dict[str, str]:
    """The texts of a PNG file. Raises SkiptuneError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return dict(getattr(image, "text", {}))
    except OSError as error:
        raise unreadable(path, error) from error
