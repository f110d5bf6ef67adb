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
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from ..utils.texts import LONGEST, check_regular, named, one_line, short
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
            found = read_header(stream, os.fstat(stream.fileno()).st_size)
            if found.size <= (WHOLE if len(_mapped) < MANY else WHOLE_OF_MANY):
                return found.read(stream)
            mapped = np.memmap(stream, found.kind, "r", stream.tell(), found.shape, found.order)
    except OSError as error:
        raise named(error, path) from None
    except UNREADABLE as error:
        reason = one_line(error, 200) or type(error).__name__
        raise ValueError(f"{path} is not a readable .npy array (truncated, pickled or foreign): {reason}") from None
    _mapped[id(mapped)] = mapped
    return np.asarray(mapped)


class Header(NamedTuple):
    """Shape, order and type of an array whose values follow in a file."""

    shape: tuple[int, ...]
    order: Literal["F", "C"]
    kind: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.kind.itemsize

    def read(self, stream: IO[bytes]) -> Array:
        """The array, read-only, as bytes are."""
        return np.ndarray(self.shape, self.kind, stream.read(self.size), order=self.order)


def read_header(stream: IO[bytes], size: int) -> Header:
    """The header of a .npy file of ``size`` bytes, compared with that size before any value is read.

    Raises:
        One of `UNREADABLE`: no header, an array of Python objects, or one that does not fit the file.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"format version {version} is not read")
    shape, fortran, kind = HEADERS[version](stream)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    found = Header(shape, "F" if fortran else "C", kind)
    if min(shape, default=0) < 0 or stream.tell() + found.size > size:
        raise ValueError(f"shape {short(shape)} of {one_line(kind, LONGEST)} does not fit a file of {size:,} bytes")
    return found


def pieces(array: Array) -> Iterator[tuple[int, Array]]:
    """First row and rows of pieces of at most `PIECE` values, as an array may be large."""
    rows = max(1, PIECE // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def release(array: Array) -> None:
    """Let the system take back the memory of a mapped array that was read through; it is read again when needed."""
    mapped = getattr(array.base, "base", None)  # of `open_array`: an array on a memmap on an mmap
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
