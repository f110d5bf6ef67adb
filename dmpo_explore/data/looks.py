"""Inspection of image files: SHA-256, size and format of each, whether it can be decoded, optionally a thumbnail.

In: paths. Out: a `FileLook` each. A file is hashed and decoded once, several at a time: Pillow decodes without Python's
lock. Ours: a JPEG is decoded at an eighth of its size, which reads all of its bytes and takes half the time. Results
are cached in this process, by path, size and time of change: a search trains on the same images many times.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..utils.files import sha256
from ..utils.progress import Progress
from ..utils.reading import named
from .image_files import Refused, known_formats, opened, read_errors
from .pixels import ORIENTATION, to_rgb

THUMBNAIL = 96  # pixels of the longer side
MOST_KEPT = 200_000  # looks of this process
THREADS = min(8, (os.cpu_count() or 1) + 2)


@dataclass(frozen=True)
class FileLook:
    """The result of inspecting one image file.

    Args:
        sha256: of its bytes; empty without a file. bytes: its size.
        width, height: in pixels, upright; 0 where the header cannot be read.
        format: Pillow's name of it, by the content; empty where none fits.
        problem: why it cannot be read, the text of `open_image`; empty if it can. too_large: whether its size is the
            reason.
        thumbnail: uint8 (h, w, 3), at most `THUMBNAIL` pixels a side, if requested.
    """

    sha256: str
    bytes: int
    width: int = 0
    height: int = 0
    format: str = ""
    problem: str = ""
    too_large: bool = False
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)


def look_at(path: Path, thumbnail: bool = False) -> FileLook:
    """Hash and decode one image file; a problem is a field of the `FileLook`, not an error.

    Example:
        >>> look_at(Path("nowhere.png")).problem
        'no file nowhere.png'
    """
    try:
        digest, size = sha256(path), path.stat().st_size
    except OSError as error:
        missing = not path.is_file()
        return FileLook("", 0, problem=f"no file {path}" if missing else str(named(error, path)))
    except ValueError as error:
        return FileLook("", 0, problem=str(error))
    found: dict[str, object] = {}
    try:
        with read_errors(path):
            _decode(path, found, thumbnail)
    except (OSError, ValueError) as error:
        large = isinstance(error.__cause__, Refused)
        return FileLook(digest, size, problem=" ".join(str(error).split()), too_large=large, **found)  # type: ignore[arg-type]
    return FileLook(digest, size, **found)  # type: ignore[arg-type]


def look_at_all(
    paths: Sequence[Path], progress: Progress | None = None, thumbnails: Collection[Path] = ()
) -> list[FileLook]:
    """`look_at` for every path, several at a time, in their order.

    Args:
        progress: called with (files read, files in all), for at most every hundredth file and the last.
        thumbnails: the files to make thumbnails of.

    Example:
        >>> [look.sha256 for look in look_at_all([Path("nowhere.png")])]
        ['']
    """
    wanted, looks, pool = {*thumbnails}, list[FileLook](), ThreadPoolExecutor(THREADS)
    with warnings.catch_warnings():  # once around all threads: it is not safe within them
        warnings.simplefilter("ignore")
        try:
            for done, look in enumerate(pool.map(lambda path: _kept(path, path in wanted), paths), start=1):
                looks.append(look)
                if progress and (done % 100 == 0 or done == len(paths)):
                    progress(done, len(paths))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return looks


_LOCK = threading.Lock()
_SEEN: dict[tuple[str, str, int, int], FileLook] = {}


def _kept(path: Path, thumbnail: bool) -> FileLook:
    try:
        status = path.stat()
    except OSError:
        return look_at(path)
    key = (str(path), os.path.abspath(path), status.st_size, status.st_mtime_ns)
    seen = _SEEN.get(key)
    if seen is not None and (seen.thumbnail is not None or seen.problem or not thumbnail):
        return seen
    look = look_at(path, thumbnail)
    with _LOCK:
        if len(_SEEN) >= MOST_KEPT:
            _SEEN.clear()
        _SEEN[key] = look
    return look


def _decode(path: Path, found: dict[str, object], thumbnail: bool) -> None:
    """Fill in what is found, as far as the file can be read."""
    from PIL import Image

    try:
        with path.open("rb") as file, Image.open(file, formats=known_formats()) as image:
            found |= {"width": image.width, "height": image.height, "format": image.format or ""}
        with path.open("rb") as file, opened(file, known_formats()) as image:
            if image.format == "JPEG":
                if image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
                    found |= {"width": image.height, "height": image.width}
                image.draft(None, (THUMBNAIL, THUMBNAIL) if thumbnail else (1, 1))
                image.load()
                pixels = to_rgb(image) if thumbnail else None
            else:
                pixels = to_rgb(image)
                found |= {"width": pixels.shape[1], "height": pixels.shape[0]}
    except Image.DecompressionBombError as error:
        raise Refused(f"is far too large: {error}") from None
    if thumbnail and pixels is not None:
        found["thumbnail"] = shrunk(pixels)


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (H, W, 3), or a grey one (H, W), in at most `THUMBNAIL` pixels a side: uint8 (h, w, 3).

    Example:
        >>> shrunk(np.zeros((200, 100, 3), np.uint8)).shape
        (96, 48, 3)
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image, np.uint8)
