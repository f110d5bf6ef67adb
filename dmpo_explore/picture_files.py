"""Picture files: which files are pictures, and one file → uint8 (H, W, 3).

No torch. Ours: the EXIF orientation is applied, what is transparent lies on white, 16-bit greys are scaled to 8 bits (a
plain conversion would clip them), of an animation the first picture counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def find_pictures(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders replaced by the pictures in them (by suffix, sorted, hidden ones left out).

    Raises:
        ValueError: a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and _visible(p, path))
        if not inside:
            raise ValueError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        found += inside
    return found


def open_picture(path: str | Path) -> NDArray[np.uint8]:
    """A picture file of any kind that Pillow reads: uint8 (H, W, 3), RGB, upright.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as a picture (truncated, foreign or far too large); the file is named.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with Image.open(path) as picture:
            return _rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be read as a picture: {reason}") from None


def _rgb(picture: Image) -> NDArray[np.uint8]:
    from PIL import Image

    if picture.mode[0] in "IF":  # grey values of 16 bits or more
        values = np.asarray(picture, np.float64)
        top = 65535 if picture.mode[0] == "I" else (1 if values.max() <= 1 else 255)
        grey = np.rint(values.clip(0, top) * (255 / top)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"), np.uint8)


def _visible(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
