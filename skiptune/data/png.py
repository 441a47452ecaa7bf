"""PNG files with texts in them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from skiptune.errors import SkiptuneError


def png(image: Tensor, texts: Mapping[str, str]) -> bytes:
    """uint8 ``[C, H, W]`` with 1 or 3 channels as the bytes of a PNG file with these texts."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    info = PngInfo()
    for key, value in texts.items():
        info.add_itxt(key, value)
    out = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def texts_of(path: Path) -> dict[str, str]:
    """The texts of a PNG file, those before its pixels. Raises SkiptuneError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return {str(key): str(value) for key, value in image.info.items() if isinstance(value, str)}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SkiptuneError(f"{path} is no readable picture ({error})") from error
