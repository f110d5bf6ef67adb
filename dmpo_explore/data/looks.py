"""Looks at images: every one hashed and decoded once, and the check that files are still there.

A JPEG is decoded at a part of its size, which reads all of its bytes and takes half the time. Files are looked at
several at a time: Pillow decodes without Python's lock. Their looks are cached in this process, by path, size and time
of change: a search trains on the same images many times.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..utils.files import sha256
from ..utils.texts import check_regular, few, named
from ..utils.typing import Progress
from .image_files import ORIENTATION, Refused, known_formats, opened, read_errors, to_rgb
from .kinds import Kind

T = TypeVar("T")
THUMBNAIL = 96  # pixels of the longer side
LEAST = 64  # pixels of a JPEG's shorter side that are decoded at least, where it has them
MOST_KEPT = 200_000  # looks of this process
THREADS = min(8, (os.cpu_count() or 1) + 2)
EVERY = 100  # images between two reports of progress


class ImageLook(NamedTuple):
    """The result of inspecting one image.

    Args:
        sha256: of its bytes; empty without any. bytes: their number.
        width, height: in pixels, upright; 0 where the header cannot be read.
        format: Pillow's name of it, by the content; empty where none fits.
        problem: why it cannot be read; empty if it can. too_large: whether its size is the reason.
        tiny: its 8 x 8 pixels, RGB (`copies`); None where it cannot be read.
        thumbnail: uint8 (h, w, 3), at most `THUMBNAIL` pixels a side, if requested.
    """

    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    format: str = ""
    problem: str = ""
    too_large: bool = False
    tiny: builtins.bytes | None = None
    thumbnail: NDArray[np.uint8] | None = None


def of_each(work: Callable[[Any], T], items: Sequence[Any], progress: Progress | None, threads: int = 1) -> list[T]:
    """``work`` of every item, several at a time, in their order; ``progress``: called with (done, in all)."""
    found, pool = list[T](), ThreadPoolExecutor(threads)
    try:
        for value in pool.map(work, items):
            found.append(value)
            if progress and (len(found) % EVERY == 0 or len(found) == len(items)):
                progress(len(found), len(items))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return found


def look_at_all(
    kind: Kind, names: Sequence[str], progress: Progress | None = None, thumbnails: Collection[str] = ()
) -> list[ImageLook]:
    """A look at every image of these names, in their order.

    Args:
        progress: called with (images read, images in all), for at most every hundredth one and the last.
        thumbnails: names of those to make thumbnails of.
    """
    with warnings.catch_warnings():  # once around all threads: it is not safe within them
        warnings.simplefilter("ignore")
        how = partial(_kept, kind, thumbnails=thumbnails)
        return of_each(how, names, progress, THREADS if kind.files else 1)


_LOCK = threading.Lock()
_SEEN: dict[tuple[str, int, int], ImageLook] = {}


def _kept(kind: Kind, name: str, thumbnails: Collection[str]) -> ImageLook:
    thumbnail = name in thumbnails
    if not kind.files:
        return look_at(kind, name, thumbnail)
    try:
        status = (kind.folder / name).stat()
    except OSError:
        return look_at(kind, name, thumbnail)
    key = (str(kind.folder / name), status.st_size, status.st_mtime_ns)
    seen = _SEEN.get(key)
    if seen is not None and (seen.thumbnail is not None or seen.problem or not thumbnail):
        return seen
    look = look_at(kind, name, thumbnail)
    with _LOCK:
        if len(_SEEN) >= MOST_KEPT:
            _SEEN.clear()
        _SEEN[key] = look
    return look


def look_at(kind: Kind, name: str, thumbnail: bool = False) -> ImageLook:
    """Hash and decode one image; a problem is a field of the `ImageLook`, not an error."""
    path = kind.folder / name if kind.files else None
    try:
        if path is not None:
            check_regular(path)
        content = kind.content(name) if path is None else path.read_bytes()
    except (OSError, ValueError) as error:
        if path is None or isinstance(error, ValueError):
            return ImageLook(problem=f"{error}")
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return ImageLook(problem=f"no file {path}" if missing else f"{named(error, path)}")
    found, where = ImageLook(hashlib.sha256(content).hexdigest(), len(content)), f"{path or name}"
    try:
        with read_errors(where):
            try:
                with Image.open(io.BytesIO(content), formats=known_formats()) as image:
                    found = found._replace(width=image.width, height=image.height, format=image.format or "")
                return _decoded(content, found, thumbnail)
            except Image.DecompressionBombError as error:
                raise Refused(f"is far too large: {error}") from None
    except ValueError as error:
        return found._replace(problem=" ".join(f"{error}".split()), too_large=isinstance(error.__cause__, Refused))


def _decoded(content: bytes, found: ImageLook, thumbnail: bool) -> ImageLook:
    with opened(io.BytesIO(content), known_formats()) as image:
        jpeg, (width, height) = image.format == "JPEG", image.size
        if jpeg and image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        if jpeg:
            image.draft(None, (THUMBNAIL, THUMBNAIL) if thumbnail else (LEAST, LEAST))
        pixels = to_rgb(image)
    if not jpeg:
        height, width = pixels.shape[:2]
    return found._replace(
        width=width, height=height, tiny=tiny(pixels), thumbnail=shrunk(pixels) if thumbnail else None
    )


def look_at_array(pixels: NDArray[np.uint8], thumbnail: bool) -> ImageLook:
    """A look at an image of a known data set of arrays."""
    pixels = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    small = shrunk(pixels) if thumbnail else None
    return ImageLook(digest, pixels.nbytes, width, height, "arrays", tiny=tiny(pixels), thumbnail=small)


def tiny(pixels: NDArray[np.uint8]) -> bytes:
    """8 x 8 pixels of an image (H, W, 3)."""
    return Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX).tobytes()


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (H, W, 3), or a grey one (H, W), in at most `THUMBNAIL` pixels a side: uint8 (h, w, 3)."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image, np.uint8)


def hashes_of(kind: Kind, names: Sequence[str], progress: Progress | None = None) -> list[str]:
    """SHA-256 of every image's bytes; empty where they are missing."""

    def one(name: str) -> str:
        try:
            return sha256(kind.folder / name) if kind.files else hashlib.sha256(kind.content(name)).hexdigest()
        except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):  # ValueError: it is no regular file
            return ""

    return of_each(one, names, progress, THREADS if kind.files else 1)


def require_files(rows: pd.DataFrame, kind: Kind, split: str) -> None:
    """Raise for files that are missing or have another size; their bytes are compared when they are read.

    Args:
        rows: with the columns path and, where they are known, bytes.
    """
    absent, changed = [], []
    sizes = rows["bytes"] if "bytes" in rows else [None] * len(rows)
    for name, size in zip(rows["path"], sizes, strict=True):
        try:
            now = os.stat(kind.folder / name).st_size
        except OSError:
            absent.append(name)
        else:
            changed += [name] * (size not in (None, now))
    if absent:
        raise FileNotFoundError(
            f"{len(absent):,} of {len(rows):,} {split} images are not in {kind.folder} ({few(absent)}); restore them, "
            f"or, if they were moved, {kind.moved_cure}"
        )
    if changed:
        raise ValueError(
            f"{len(changed):,} of {len(rows):,} {split} images in {kind.folder} have been changed since the training "
            f"({few(changed)}); restore them"
        )
