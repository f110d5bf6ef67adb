"""Image files: found by suffix, read from disk or from bytes → uint8 (H, W, 3).

No torch. Ours: the EXIF orientation is applied, transparent areas become white, 16-bit greys are scaled to 8 bits (a
plain conversion would clip them), and of an animation the first image is taken. Bytes of unknown origin are checked
more strictly: few formats, recognised by their content, and limits that are tested before anything is decoded.
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
MOST_BYTES = 10 * 2**20  # of an image given as bytes
MOST_PIXELS = 50_000_000
# Other formats: position in the file, bytes there, name.
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (0, b"%PDF", "a PDF"),
)
_TEXT = bytes({9, 10, 12, 13, *range(32, 256)})  # bytes that text of any encoding consists of
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """List image files: files as they are, folders replaced by their images (by suffix, sorted, none hidden).

    Raises:
        ValueError: a folder without images.

    Example:
        >>> find_images(["cat.png"])[0].name
        'cat.png'
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
    """Read an image file of any format that Pillow reads: uint8 (H, W, 3), RGB, upright.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as an image (truncated, foreign or far too large); the file is named.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 2), 255).save(f"{folder}/grey.tiff")
        ...     open_image(f"{folder}/grey.tiff").shape
        (2, 4, 3)
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with Image.open(path) as image:
            return _rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be read as an image: {reason}") from None


def read_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image given as bytes: uint8 (H, W, 3), RGB, upright. Nothing is written.

    Ours: PNG, JPEG, WebP and BMP, whatever the name says, of at most 10 MB and 50 megapixels.

    Raises:
        ValueError: too large, another format, no image at all, or a damaged one; the message names the file, what is
            wrong and what is accepted.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), "red").save(file, "PNG")
        >>> read_image(file.getvalue(), "red.png").shape
        (2, 4, 3)
    """
    from PIL import Image, ImageOps

    if not data:
        raise ValueError(f"{name} is empty")
    if len(data) > MOST_BYTES:
        size = math.ceil(10 * len(data) / 2**20) / 10  # never the limit itself
        raise ValueError(f"{name} has {size:.1f} MB; at most {MOST_BYTES / 2**20:.0f} MB are taken")
    try:
        with _opened(data, name) as image:
            return _rgb(ImageOps.exif_transpose(image))
    except _Refused as error:
        raise ValueError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_many_pixels(name, "far more pixels")) from None
    except Exception as error:  # foreign bytes can trip a decoder anywhere
        raise ValueError(f"{name} is damaged and cannot be read as an image: {error}") from None


class _Refused(Exception):
    """The bytes are whole, but of a format or size that is not accepted."""


def _opened(data: bytes, name: str) -> Image:
    """The image, not unpacked yet."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=[kind.upper() for kind in SENT_FORMATS])
    except UnidentifiedImageError:
        raise _Refused(f"{name} is {_kind(data)}") from None
    if image.width * image.height > MOST_PIXELS:
        raise _Refused(_too_many_pixels(name, f"{image.width:,} x {image.height:,} pixels"))
    return image


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
    return "no image that can be read" if start.translate(None, _TEXT) else "text, not an image"


def _rgb(image: Image) -> NDArray[np.uint8]:
    from PIL import Image

    if image.mode[0] in "IF":  # grey values of 16 bits or more
        if image.mode[0] == "I":
            deep = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
            deep += 128  # in place: it may have 50 megapixels
            deep //= 257  # 65535 = 255 * 257
            grey = deep.astype(np.uint8)
        else:
            values = np.asarray(image, np.float32)
            top = 1 if values.max() <= 1 else 255
            grey = np.rint(values.clip(0, top) * np.float32(255 / top)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"), np.uint8)


def _visible(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
