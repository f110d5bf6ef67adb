"""Image files: found by suffix, read from disk or from bytes → uint8 (H, W, 3).

No torch. Ours: of an animation the first image is taken; colours become RGB (`to_rgb`). A format is recognised by the
content. The size is read from the header and compared with `MOST_PIXELS` and `MOST_SIDE` before anything is
decoded, so that no file needs more than about 300 MB. Bytes of unknown origin are checked more strictly: few formats,
and a limit on the bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
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
        if not path.is_dir():
            found.append(path)
            continue
        inside = images_in(path)
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
    with read_errors(path), Path(path).open("rb") as file:
        image, remarks = _decoded(file if sha256 is None else _verified(file, sha256), known_formats())
    for remark in remarks:
        warnings.warn(f"{path}: {remark}", UserWarning, stacklevel=2)
    return image


@cache
def known_formats() -> list[str]:
    """Those of `FORMATS` that the installed Pillow reads: not every one reads AVIF."""
    return sorted(FORMATS & set(Image.registered_extensions().values()))


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn Pillow's errors for an image file into those of `open_image`, which name the file."""
    check_regular(Path(path))
    try:
        yield
    except Refused as error:
        raise ValueError(f"{path} {error}") from error
    except UnidentifiedImageError:
        raise ValueError(f"{path} cannot be read as an image: not an image") from None
    except (
        OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, ArithmeticError, RuntimeError,
        struct.error,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} cannot be read as an image: {error}") from None


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file: uint8 (H, W, 3), as `open_image` does.

    Raises:
        ValueError: they cannot be read as an image; ``name`` is named.
    """
    try:
        return _decoded(io.BytesIO(data), known_formats())[0]
    except Refused as error:
        raise ValueError(f"{name} {error}") from error
    except UnidentifiedImageError:
        raise ValueError(f"{name} cannot be read as an image: not an image") from None
    except Exception as error:  # foreign bytes can trip a decoder anywhere
        raise ValueError(f"{name} cannot be read as an image: {error}") from None


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
        size = math.ceil(10 * len(data) / 2**20) / 10  # never the limit itself
        raise ValueError(f"{name} has {size:.1f} MB; at most {MOST_BYTES / 2**20:.0f} MB are taken")
    try:
        return _decoded(io.BytesIO(data), [kind.upper() for kind in SENT_FORMATS])[0]
    except Refused as error:
        raise ValueError(f"{name} {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is {_kind(data)}") from None
    except Exception as error:  # foreign bytes can trip a decoder anywhere
        raise ValueError(f"{name} is damaged and cannot be read as an image: {error}") from None


class Refused(Exception):
    """The image is larger than what is accepted, or another; the message continues after the file's name."""


def _verified(file: IO[bytes], sha256: str) -> IO[bytes]:
    """What ``file`` holds, if that has this SHA-256."""
    content = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused("has been changed since the training (its SHA-256 differs); restore it")
    return io.BytesIO(content)


def _decoded(file: IO[bytes], formats: list[str]) -> tuple[NDArray[np.uint8], list[str]]:
    """The image in ``file`` and what Pillow warns of."""
    with _bombs_refused() as seen, opened(file, formats) as image:
        decoded = to_rgb(image)
    return decoded, list(dict.fromkeys(" ".join(str(warning.message).split()) for warning in seen))


@contextmanager
def opened(file: IO[bytes], formats: list[str]) -> Iterator[Image.Image]:
    """An image whose header alone has been read; `Refused` if it is too large, before anything is unpacked."""
    with Image.open(file, formats=formats) as image:
        _check_size(image)
        if image.info.get("progressive") and (scans := _scans(file)) > MOST_SCANS:
            raise Refused(f"is a progressive JPEG of {scans:,} scans; at most {MOST_SCANS} are taken")
        yield image


@contextmanager
def _bombs_refused() -> Iterator[list[warnings.WarningMessage]]:
    """Context in which Pillow's own limit is a `Refused`; its warnings, which name no file, are collected."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield seen
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            found = re.search(r"\((\d+) pixels\)", str(error))
            raise Refused(_too_large(f"{int(found[1]):,} pixels" if found else "far more pixels")) from None


def _check_size(image: Image.Image) -> None:
    """Raise `Refused` if the image, or a tile of a TIFF, is larger than the limits."""
    (width, height), most = image.size, MOST_PIXELS_OF.get(image.format or "", MOST_PIXELS)
    if width * height > most or max(width, height) > MOST_SIDE:
        raise Refused(_too_large(f"{width:,} x {height:,} pixels", most))
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        wide, high = (tags.get(tag, 0) for tag in (322, 323))  # TileWidth, TileLength
        if isinstance(wide, int) and isinstance(high, int) and wide * high > MOST_PIXELS:
            raise Refused(_too_large(f"tiles of {wide:,} x {high:,} pixels"))


def _too_large(found: str, most: int = MOST_PIXELS) -> str:
    limits = f"{most // 10**6} megapixels and {MOST_SIDE:,} pixels a side"
    return f"has {found}; at most {limits} are taken, so make it smaller"


def _scans(file: IO[bytes]) -> int:
    """Number of scans of a JPEG: its markers FF DA, which image data cannot contain."""
    place, last, count = file.tell(), b"", 0
    file.seek(0)
    while part := file.read(2**20):
        count += (last + part).count(b"\xff\xda")
        last = part[-1:]
    file.seek(place)
    return count


def _kind(data: bytes) -> str:
    """Text about bytes of another format than `SENT_FORMATS`: what they seem to be, and which formats are accepted."""
    *most, last = SENT_FORMATS
    start, advice = data[:2000], f"save it as {', '.join(most)} or {last}"
    for place, magic, words in _OTHERS:
        if data[place : place + len(magic)] == magic:
            return f"{words}; {advice}"
    if b"<svg" in start.lower():
        return f"an SVG drawing; {advice}"
    return "no image that can be read" if start.translate(None, _TEXT) else "text, not an image"


# -- colours --

BAND = 2**20  # pixels that are converted at once
ORIENTATION = 0x0112  # EXIF tag
# EXIF orientation → view of the upright array (H, W, 3) as the file stores it
_AS_STORED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Decode an image: uint8 (H, W, 3), RGB, upright, C-contiguous. The caller has checked its size.

    Raises what Pillow raises for a damaged file.
    """
    image.load()  # first: Pillow applies a TIFF's orientation here
    orientation = image.getexif().get(ORIENTATION)
    width, height = image.size
    swapped = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if swapped else (height, width, 3), np.uint8)
    stored = _AS_STORED[orientation](upright) if orientation in _AS_STORED else upright
    convert = _converter(image)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return upright


def _converter(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """How bands of ``image`` become RGB."""
    if image.mode.startswith("I"):
        return _deep_grey
    if image.mode == "F":
        highest = image.getextrema()[1]
        unit = isinstance(highest, float) and highest <= 1
        top = 1 if unit else 255
        return lambda band: _three(np.rint(np.asarray(band, np.float32).clip(0, top) * np.float32(255 / top)))
    return _on_white if image.has_transparency_data else _plain


def _deep_grey(band: Image.Image) -> NDArray[np.uint8]:
    values = np.clip(np.asarray(band), 0, 65535).astype(np.uint32)
    return _three((values + 128) // 257)  # 65535 = 255 * 257


def _three(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _on_white(band: Image.Image) -> NDArray[np.uint8]:
    band = band.convert("RGBA")
    return _plain(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band))


def _plain(band: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(band.convert("RGB"), np.uint8)


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
    inside = [path for path in place.iterdir() if not path.name.startswith(".")]
    folders = [path for path in inside if path.is_dir()]
    alone = len(folders) == 1 and not any(is_image_file(path) for path in inside if path not in folders)
    return folders[0] if alone else place


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Its files, without what macOS adds."""
    found = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    size = sum(one.file_size for one in found)
    if not found:
        raise ValueError("this ZIP file is empty; pack a folder with a subfolder per class")
    if size > MOST_UNPACKED or len(found) > MOST_FILES:
        raise ValueError(f"this ZIP file unpacks to {size / 2**30:.1f} GiB; unpack it yourself and type its folder")
    return found
