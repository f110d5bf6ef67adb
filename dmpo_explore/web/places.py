"""Where the files of a page go: into its folder, or into the one HTML file.

In: a name and bytes. Out: an entry of page.json, by which the page finds the bytes again and checks them.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .runtime import integrity

PICTURES = (".jpg", ".png")  # which gzip makes no smaller


class PageFiles(Protocol):
    """Takes the files of a page."""

    def add(self, name: str, content: bytes) -> dict[str, Any]: ...


@dataclass(frozen=True)
class InFolder:
    """The folder of a page.

    Example:
        >>> import tempfile
        >>> InFolder(Path(tempfile.mkdtemp())).add("record/labels.bin", b"123")["bytes"]
        3
    """

    folder: Path

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """Write a file; returns its `file_facts`."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return file_facts(self.folder, path)


class InPage:
    """The page itself: files are texts in its HTML.

    Example:
        >>> InPage().add("labels.bin", b"123")["packed"]
        True
    """

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """``data`` (base64), ``bytes`` of the file, and whether gzip ``packed`` it."""
        packed = not name.endswith(PICTURES)
        stored = gzip.compress(content, 9, mtime=0) if packed else content
        return {"data": base64.b64encode(stored).decode(), "bytes": len(content), "packed": packed}


def file_facts(folder: Path, path: Path) -> dict[str, Any]:
    """Address, bytes and hash of a file, as the page checks it."""
    return {
        "url": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "packed": False,
        "integrity": integrity(path),
    }  # fmt: skip
