"""Picture files: which files are pictures, and one file, or bytes that somebody sent → uint8 (H, W, 3).

No torch. Ours: the EXIF orientation is applied, what is transparent lies on white, 16-bit greys are scaled to 8 bits (a
plain conversion would clip them), of an animation the first picture counts. What is sent is trusted less: few formats,
told by their content, and limits that are checked before anything is unpacked.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

SENT_FORMATS = {"PNG": ("png",), "JPEG": ("jpg", "jpeg"), "WebP": ("webp",), "BMP": ("bmp",)}  # name → suffixes
MOST_BYTES = 10 * 2**20  # of a picture that is sent
MOST_PIXELS = 50_000_000
# What is sent instead: where in the file, which bytes, what it is.
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (0, b"%PDF", "a PDF"),
)
_TEXT = bytes({9, 10, 12, 13, *range(32, 256)})  # bytes that text of any encoding consists of
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
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
            raise ValueError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        found += inside
    return found


def open_image(path: str | Path) -> NDArray[np.uint8]:
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


def read_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Bytes that somebody sent under a name of their own: uint8 (H, W, 3), RGB, upright. Nothing is written.

    Ours: PNG, JPEG, WebP and BMP, whatever the name says, of at most 10 MB and 50 megapixels.

    Raises:
        ValueError: too large, another format, no picture at all, or a damaged one; the message names the file, what is
            wrong and what would do.
    """
    from PIL import Image, ImageOps

    if not data:
        raise ValueError(f"{name} is empty")
    if len(data) > MOST_BYTES:
        size = math.ceil(10 * len(data) / 2**20) / 10  # never the limit itself
        raise ValueError(f"{name} has {size:.1f} MB; at most {MOST_BYTES / 2**20:.0f} MB are taken")
    try:
        with _opened(data, name) as picture:
            return _rgb(ImageOps.exif_transpose(picture))
    except _Refused as error:
        raise ValueError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_many_pixels(name, "far more pixels")) from None
    except Exception as error:  # foreign bytes can trip a decoder anywhere
        raise ValueError(f"{name} is damaged and cannot be read as a picture: {error}") from None


class _Refused(Exception):
    """What is sent is whole and cannot be taken."""


def _opened(data: bytes, name: str) -> Image:
    """The picture, not unpacked yet."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(data), formats=[kind.upper() for kind in SENT_FORMATS])
    except UnidentifiedImageError:
        raise _Refused(f"{name} is {_kind(data)}") from None
    if picture.width * picture.height > MOST_PIXELS:
        raise _Refused(_too_many_pixels(name, f"{picture.width:,} x {picture.height:,} pixels"))
    return picture


def _too_many_pixels(name: str, found: str) -> str:
    return f"{name} has {found}; at most {MOST_PIXELS // 10**6} megapixels are taken, so make it smaller"


def _kind(data: bytes) -> str:
    """What bytes that are none of `SENT_FORMATS` are, as far as a glance tells, and what would do."""
    *most, last = SENT_FORMATS
    start, advice = data[:2000], f"save it as {', '.join(most)} or {last}"
    for place, magic, words in _OTHERS:
        if data[place : place + len(magic)] == magic:
            return f"{words}; {advice}"
    if b"<svg" in start.lower():
        return f"an SVG drawing; {advice}"
    return "no picture that can be read" if start.translate(None, _TEXT) else "text, not a picture"


def _rgb(picture: Image) -> NDArray[np.uint8]:
    from PIL import Image

    if picture.mode[0] in "IF":  # grey values of 16 bits or more
        if picture.mode[0] == "I":
            deep = np.clip(np.asarray(picture), 0, 65535).astype(np.uint32)
            deep += 128  # in place: it may have 50 megapixels
            deep //= 257  # 65535 = 255 * 257
            grey = deep.astype(np.uint8)
        else:
            values = np.asarray(picture, np.float32)
            top = 1 if values.max() <= 1 else 255
            grey = np.rint(values.clip(0, top) * np.float32(255 / top)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"), np.uint8)


def _visible(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
