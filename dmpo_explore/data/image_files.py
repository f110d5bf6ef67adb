"""Image files: found by suffix, read from disk or from bytes → uint8 (H, W, 3).

No torch. Ours: of an animation the first image is taken; colours become RGB (`to_rgb`), and so do images of more than
8 bits a value (`white_of`). A format is recognised by the content. The size is read from the header and compared with
`MOST_PIXELS` and `MOST_SIDE` before anything is decoded, so that no file needs more than about 300 MB. Bytes of unknown
origin are checked more strictly: few formats, and a limit on the bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..utils.files import atomic_folder, cache_dir
from ..utils.texts import check_regular

SENT_FORMATS = {"PNG": ("png",), "JPEG": ("jpg", "jpeg"), "WebP": ("webp",), "BMP": ("bmp",)}  # name → suffixes
MOST_BYTES = 10 * 2**20  # of an image given as bytes
MOST_PIXELS = 25_000_000  # width x height
MOST_PIXELS_OF = {"WEBP": 18_000_000}  # by Pillow's name: that decoder holds three more copies of the image
MOST_SIDE = 20_000  # width or height
MOST_SCANS = 200  # of a progressive JPEG: each is a pass over the whole image; cameras and encoders write about ten
# What is opened from disk, by Pillow's names. EPS is not: Pillow would start Ghostscript on it.
FORMATS = frozenset({"PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF"})
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


class Unreadable(ValueError):
    """An image that is not taken; the message continues after the file's name."""


class Refused(Unreadable):
    """The image is larger than what is accepted, or has changed."""


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of image files, lower case: those of `FORMATS` that this Pillow reads."""
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind in FORMATS
    )


def is_image_file(path: Path) -> bool:
    """Whether the name has an image suffix and does not begin with a dot."""
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """List image files: files as they are, folders replaced by their images (by suffix, sorted, none hidden).

    Raises:
        ValueError: a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = images_in(path) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path} holds no images ({', '.join(sorted(image_suffixes()))})")
        found += inside
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, by suffix, sorted; hidden ones are left out."""
    found: list[Path] = []
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in files if is_image_file(path := Path(top, name))]
    return sorted(found)


def open_image(path: str | Path, sha256: str | None = None) -> NDArray[np.uint8]:
    """Read an image file: uint8 (H, W, 3), RGB, upright.

    Ours: the formats `FORMATS`, recognised by the content, of at most 25 megapixels (WebP: 18) and 20,000 pixels a
    side.

    Args:
        sha256: of the file; the very bytes that are decoded are compared with it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as an image (truncated, another format or too large), or has another SHA-256; the
            file is named.

    Warns:
        UserWarning: a warning of Pillow, e.g. about damaged EXIF data; the file is named.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 2), 255).save(f"{folder}/grey.tiff")
        ...     open_image(f"{folder}/grey.tiff").shape
        (2, 4, 3)
    """
    with read_errors(Path(path)), Path(path).open("rb") as file:
        image, remarks = _decoded(file if sha256 is None else _verified(file, sha256), known_formats())
    for remark in remarks:
        warnings.warn(f"{path}: {remark}", UserWarning, stacklevel=2)
    return image


@cache
def known_formats() -> list[str]:
    """Those of `FORMATS` that the installed Pillow reads: not every one reads AVIF."""
    return sorted(FORMATS & set(Image.registered_extensions().values()))


@contextmanager
def read_errors(
    place: str | Path,
    unknown: str = "cannot be read as an image: not an image, or of a kind that is not read",
    how: str = "cannot be read as an image",
) -> Iterator[None]:
    """Turn every error of reading an image into those of `open_image`: a line that begins with its name.

    Args:
        place: a file, which is looked for first, or a name.
        unknown, how: what the line says of another format, and before another error.
    """
    if isinstance(place, Path):
        check_regular(place)
    try:
        yield
    except MemoryError:  # says nothing about the image
        raise
    except Unreadable as error:
        raise ValueError(f"{place} {error}") from error
    except UnidentifiedImageError:
        raise ValueError(f"{place} {unknown}") from None
    except Exception as error:  # foreign bytes can trip a decoder anywhere
        raise ValueError(f"{place} {how}: {error}") from None


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file: uint8 (H, W, 3), as `open_image` does.

    Raises:
        ValueError: they cannot be read as an image; ``name`` is named.
    """
    with read_errors(name):
        return _decoded(io.BytesIO(data), known_formats())[0]


def read_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image given as bytes: uint8 (H, W, 3), RGB, upright. No file is written.

    Ours: PNG, JPEG, WebP and BMP, recognised by the content, of at most 10 MB, 25 megapixels (WebP: 18) and 20,000
    pixels a side.

    Raises:
        ValueError: too large, another format, no image at all, or a damaged one; the message names the file, the
            problem and what is accepted.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), "red").save(file, "PNG")
        >>> read_image(file.getvalue(), "red.png").shape
        (2, 4, 3)
    """
    if not data:
        raise ValueError(f"{name} is empty")
    if len(data) > MOST_BYTES:
        rounded_up = f"{np.ceil(10 * len(data) / 2**20) / 10:.1f} MB"  # never the limit itself
        raise ValueError(f"{name} has {rounded_up}; at most {MOST_BYTES / 2**20:.0f} MB are taken")
    with read_errors(name, f"is {_kind(data)}", "is damaged and cannot be read as an image"):
        return _decoded(io.BytesIO(data), [kind.upper() for kind in SENT_FORMATS])[0]


def _verified(file: IO[bytes], sha256: str) -> IO[bytes]:
    """What ``file`` holds, if that has this SHA-256."""
    content = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused("has been changed since the training (its SHA-256 differs); restore it")
    return io.BytesIO(content)


def _decoded(file: IO[bytes], formats: list[str]) -> tuple[NDArray[np.uint8], list[str]]:
    """The image in ``file`` and what Pillow warns of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with opened(file, formats) as image:
            decoded = to_rgb(image)
    remarks = (" ".join(str(one.message).split()) for one in seen if issubclass(one.category, UserWarning))
    return decoded, list(dict.fromkeys(remarks))


@contextmanager
def opened(file: IO[bytes], formats: list[str]) -> Iterator[Image.Image]:
    """An image whose header alone has been read; `Refused` if it is too large, before anything is unpacked."""
    try:
        image = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        pixels = re.findall(r"\d+", str(error))[0]
        raise Refused(_too_large(f"{int(pixels):,} pixels")) from None
    with image:
        _check_size(image)
        if image.info.get("progressive") and (scans := _scans(file)) > MOST_SCANS:
            raise Refused(f"is a progressive JPEG of {scans:,} scans; at most {MOST_SCANS} are taken")
        yield image


def _check_size(image: Image.Image) -> None:
    """Raise `Refused` if the image, or a tile of a TIFF, is larger than the limits."""
    (width, height), most = image.size, MOST_PIXELS_OF.get(image.format or "", MOST_PIXELS)
    if width * height > most or max(width, height) > MOST_SIDE:
        raise Refused(_too_large(f"{width:,} x {height:,} pixels", most))
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    wide, high = (tags.get(tag, 0) for tag in (322, 323))  # TileWidth, TileLength
    if isinstance(wide, int) and isinstance(high, int) and wide * high > MOST_PIXELS:
        raise Refused(_too_large(f"tiles of {wide:,} x {high:,} pixels"))


def _too_large(found: str, most: int = MOST_PIXELS) -> str:
    limits = f"{most // 10**6} megapixels and {MOST_SIDE:,} pixels a side"
    return f"has {found}; at most {limits} are taken, so make it smaller"


def _scans(file: IO[bytes]) -> int:
    """Number of scans of a JPEG: its markers FF DA, which image data cannot contain.

    One that lies across two megabytes of the file is missed, too few to cost time.
    """
    file.seek(0)
    return sum(part.count(b"\xff\xda") for part in iter(partial(file.read, 2**20), b""))


def _kind(data: bytes) -> str:
    """Text about bytes of another format than `SENT_FORMATS`: what they seem to be, and which formats are accepted."""
    *most, last = SENT_FORMATS
    start = data[:2000]
    svg = "an SVG drawing" if b"<svg" in start.lower() else ""
    if found := next((words for place, magic, words in _OTHERS if data.startswith(magic, place)), svg):
        return f"{found}; save it as {', '.join(most)} or {last}"
    return "no image that can be read" if start.translate(None, _TEXT) else "text, not an image"


# -- colours --

BAND = 2**20  # pixels that are converted at once
ORIENTATION = 0x0112  # EXIF tag
# EXIF orientation → the upright view of an array (H, W, 3) that is as the file stores it
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Decode an image: uint8 (H, W, 3), RGB, upright, C-contiguous. The caller has checked its size.

    Raises what Pillow raises for a damaged file.
    """
    white = white_of(image)  # first: Pillow applies a TIFF's orientation where it loads it
    orientation = image.getexif().get(ORIENTATION)
    width, height = image.size
    stored, rows = np.empty((height, width, 3), np.uint8), max(1, BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = np.asarray(on_white(band, white))
    return np.ascontiguousarray(_UPRIGHT[orientation](stored) if orientation in _UPRIGHT else stored)


# What follows is also part of an export's `run.py`, word by word, so that both read an image alike.

REMEDY = "divide all images by the value that is white, and save them with 8 bits"


def white_of(image: Image.Image) -> int:
    """Load an image; the value that is white in it, or 0 if Pillow gives it with 8 bits a value.

    White is what the format says: 65535 of 16 bits, 4095 of a TIFF's 12, and 1 of floats. Refused are images of which
    it says nothing, those with values outside, and those without any above half of white: most often they hold 10 to 15
    bits of a sensor in 16, and would be dark in silence. A scale of each image's own, from its darkest to its brightest
    value, would change the brightness from image to image.

    Raises:
        ValueError: the values do not say how bright the image is; the message continues after the file's name.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF: 258 bits, 262 whether 0 is black, 339 kind of numbers
    stored = [str(tile[3]) for tile in getattr(image, "tile", [])]
    image.load()
    white: int = {"F": 1, "I": 2 ** tags.get(258, (16,))[0] - 1}.get(image.mode[0], 0)
    if tags and (image.mode == "I" or 2 in tags.get(339, ()) or (white and tags.get(262, 0) == 0)):
        raise Unreadable(
            f"has signed or 32-bit whole numbers, or 0 for white, and no scale is agreed for these; {REMEDY}"
        )
    if not white and not any(";16" in how or "65535" in how for how in stored):
        return 0
    whole = image.convert("I") if image.mode.startswith("I;") else image
    values = np.array(whole.getextrema()[:3])  # without alpha
    if not (values.min() >= 0 and values.max() <= (white or 255)):
        raise Unreadable(f"has values from {values.min():g} to {values.max():g}, not from 0 to {white}; {REMEDY}")
    if 0 < (share := values.max() / (white or 255)) <= 0.5:
        raise Unreadable(f"has more than 8 bits a value, but none above {100 * share:.1f} % of white; {REMEDY}")
    return white


def on_white(image: Image.Image, white: int) -> Image.Image:
    """An image with 8 bits a colour, RGB, whose transparent parts lie on white; ``white`` as `white_of` gives it."""
    if white:
        values = np.asarray(image)
        if np.isnan(values).any():
            raise Unreadable(f"has values that are no numbers (NaN); {REMEDY}")
        values = np.where(values == image.info.get("transparency", -1), white, values)
        image = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else image.mode).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


# A ZIP file of images → a folder of them.
#
# In: the file's bytes. Out: a folder in the cache, named by its content, whole or absent.

MOST_UNPACKED = 8 * 2**30  # bytes of all files
MOST_FILES = 2_000_000


def unpack_images(data: bytes) -> Path:
    """The folder that a ZIP file of images unpacks to, in the cache; the same file is unpacked once.

    A single folder is skipped where no image lies beside it. Names that lead elsewhere stay inside the folder.

    Raises:
        ValueError: no ZIP file, an encrypted or damaged one, one with nothing in it, or larger than `MOST_UNPACKED`.

    Example:
        >>> unpack_images(b"none")
        Traceback (most recent call last):
        ...
        ValueError: this is not a ZIP file that can be read (File is not a zip file); pack the folder again
    """
    place = cache_dir() / "unpacked" / hashlib.sha256(data).hexdigest()[:16]
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive, atomic_folder(place) as folder:
                archive.extractall(folder, _members(archive))
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"this is not a ZIP file that can be read ({error}); pack the folder again") from None
    inside = [path for path in place.iterdir() if is_image_file(path) or (path.is_dir() and path.name[0] != ".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else place


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Its files, without what macOS adds."""
    found = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if not found:
        raise ValueError("this ZIP file is empty; pack a folder with a subfolder per class")
    if (size := sum(one.file_size for one in found)) > MOST_UNPACKED or len(found) > MOST_FILES:
        raise ValueError(f"this ZIP file unpacks to {size / 2**30:.1f} GiB; unpack it yourself and type its folder")
    return found
