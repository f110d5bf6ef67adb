"""Array files of a record: opened by their header; small ones are read whole, large ones memory-mapped.

In: a .npy file. Out: a read-only array. A mapped array keeps a file descriptor until it is deleted; a small one does
not, and is safe if the file is shortened meanwhile. If many are mapped, larger ones are read whole too, so that
any number of records can be open. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, Literal

import numpy as np

from ..utils.abbreviate import LONGEST, one_line, short
from ..utils.reading import check_regular, named
from ..utils.typing import Array

WHOLE, WHOLE_OF_MANY = 2**22, 2**26  # bytes: arrays of up to 4 MiB are read whole, where many are mapped 64 MiB
MANY = 100  # mapped arrays
PIECE = 2**22  # values that are read together
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
UNREADABLE = (  # what a header can make numpy raise, which parses it as a Python literal
    ValueError, EOFError, OverflowError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError,
)  # fmt: skip

_mapped: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()  # those that are in use


def open_array(path: Path) -> Array:
    """The array in a .npy file, read-only.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: no .npy array, truncated, or of Python
            objects. Each names the file.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.name} is missing: no file {path}") from None
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise named(error, path) from None
    except UNREADABLE as error:
        reason = one_line(error, 200) or type(error).__name__
        raise ValueError(f"{path} is not a readable .npy array (truncated, pickled or foreign): {reason}") from None


def _read(stream: BinaryIO) -> Array:
    """The array; its header is compared with the size of the file before the data are read."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"format version {version} is not read")
    shape, fortran, kind = HEADERS[version](stream)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    start, size, needed = stream.tell(), os.fstat(stream.fileno()).st_size, math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 0 or start + needed > size:
        raise ValueError(f"shape {short(shape)} of {one_line(kind, LONGEST)} does not fit a file of {size:,} bytes")
    order: Literal["F", "C"] = "F" if fortran else "C"
    if needed <= (WHOLE if len(_mapped) < MANY else WHOLE_OF_MANY):
        return np.ndarray(shape, kind, stream.read(needed), order=order)  # read-only, as bytes are
    mapped = np.memmap(stream, kind, "r", start, shape, order)
    _mapped[id(mapped)] = mapped
    return np.asarray(mapped)


def pieces(array: Array) -> Iterator[tuple[int, Array]]:
    """First row and rows of pieces of at most `PIECE` values, as an array may be large."""
    rows = max(1, PIECE // max(1, array[0].size))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def release(array: Array) -> None:
    """Let the system take back the memory of a mapped array that was read through; it is read again when needed."""
    mapped = getattr(array.base, "base", None)  # of `open_array`: an array on a memmap on an mmap
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
