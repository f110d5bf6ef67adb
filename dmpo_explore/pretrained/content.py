"""The tensors of a safetensors file as one hash, and a check against it, once for each state of a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PIECE = 2**20  # bytes read at once
_checked: dict[tuple[str, int, int, int, int], str] = {}  # path, device, inode, size, time of change → hash


def content_sha256(path: Path) -> str:
    """SHA-256 over names, types, shapes and bytes of a safetensors file's tensors, in the order of their names.

    The layout of the header, which changes with the library's version, does not count. The hash of an
    unchanged file is cached.

    Raises:
        ValueError: not a whole safetensors file.
    """
    status = path.stat()
    key = (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _checked:
        _checked[key] = hash_tensors(path)
    return _checked[key]


def hash_tensors(path: Path) -> str:
    """`content_sha256` without the cache."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            if start > path.stat().st_size:
                raise ValueError("truncated")
            header = json.loads(stream.read(start - 8))
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items()):
                first, last = entry["data_offsets"]
                found.update(json.dumps([name, entry["dtype"], entry["shape"], last - first]).encode())
                stream.seek(start + first)
                for left in range(last - first, 0, -PIECE):
                    piece = stream.read(min(PIECE, left))
                    if len(piece) != min(PIECE, left):
                        raise ValueError("truncated")
                    found.update(piece)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    return found.hexdigest()
