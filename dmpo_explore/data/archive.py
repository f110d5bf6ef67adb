"""A ZIP file of images → a folder of them.

In: the file's bytes. Out: a folder in the cache, named by its content, whole or absent.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

from ..utils.files import atomic_folder, cache_dir
from .image_files import is_image_file

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
